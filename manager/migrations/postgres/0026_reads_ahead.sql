-- What reads ahead of their deadlines have found: one row for each partition of the deadlines that come next. A row goes
-- when its deadline is challenged.
CREATE TABLE reads_ahead (
    miner       TEXT   NOT NULL,
    -- The first epoch of the proving period.
    period      BIGINT NOT NULL,
    deadline    BIGINT NOT NULL,
    "partition" BIGINT NOT NULL,

    challenge   BIGINT NOT NULL,
    opens       BIGINT NOT NULL,
    sectors     BIGINT NOT NULL CHECK (sectors >= 0),
    -- How many of them were read. Those that are neither read nor named are still to be read.
    read_count  BIGINT NOT NULL CHECK (read_count BETWEEN 0 AND sectors),
    -- Those that could not be read, with store and cause, as JSON.
    unread      TEXT   NOT NULL,
    -- The slowest sector and its milliseconds, as JSON.
    slowest     TEXT   NOT NULL,
    -- The head at the last change.
    at_epoch    BIGINT NOT NULL,

    PRIMARY KEY (miner, period, deadline, "partition")
);

-- What is read ahead may wait as well, and what a miner's next proofs need.
ALTER TABLE waits DROP CONSTRAINT waits_kind_check;
ALTER TABLE waits ADD CONSTRAINT waits_kind_check
    CHECK (kind IN ('sector', 'message', 'miner', 'store', 'node', 'bus', 'outbox', 'database', 'proof', 'blocks', 'ahead', 'proofs'));
