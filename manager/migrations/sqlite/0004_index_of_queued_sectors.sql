-- Sectors are looked up by state only to count those that nobody has taken yet. An index of all states is changed with
-- nearly every change of a sector; this one only when a sector enters the queue and when it leaves it.
DROP INDEX sectors_by_state;
CREATE INDEX sectors_queued ON sectors (miner) WHERE state = 'queued';
