-- Pledges: how many sectors were asked for, how many of those were taken back, and in which words they were asked for. Of
-- pledges made before, only what was left is known.
ALTER TABLE pledges ADD COLUMN asked BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pledges ADD COLUMN cancelled BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pledges ADD COLUMN why TEXT NOT NULL DEFAULT '';
UPDATE pledges SET asked = remaining;
