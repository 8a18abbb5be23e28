-- What waits for something that is tried again by itself, and why. A row goes when the waiting ends. Times are those of
-- the database's own clock, so that ages are never taken between clocks of two hosts.
CREATE TABLE waits (
    kind       TEXT   NOT NULL CHECK (kind IN ('sector', 'message', 'miner', 'store', 'node', 'bus', 'outbox', 'database')),
    -- Which one of its kind; empty where there is only one.
    name       TEXT   NOT NULL,
    -- The sector that waits, if it is one alone.
    sector     TEXT,
    class      TEXT   NOT NULL CHECK (class IN ('temp', 'crit')),
    code       TEXT   NOT NULL,
    cause      TEXT   NOT NULL,
    since      TEXT   NOT NULL,
    tried_at   TEXT   NOT NULL,
    -- After how long it is tried again, in milliseconds.
    retry_ms   BIGINT NOT NULL CHECK (retry_ms >= 0),
    tries      BIGINT NOT NULL CHECK (tries >= 1),
    PRIMARY KEY (kind, name),
    CHECK ((sector IS NOT NULL) = (kind IN ('sector', 'message', 'outbox')))
);

-- When the manager that holds the fold was last seen at work, by the same clock, and on which host.
ALTER TABLE fold ADD COLUMN seen_at TEXT;
ALTER TABLE fold ADD COLUMN seen_host TEXT;
