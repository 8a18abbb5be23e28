-- The proofs of spacetime of partitions: one row for each partition and turn of its deadline. Rows stay, for the history
-- and for forecasts; what only making a proof needs is dropped when it has ended.
CREATE TABLE partition_proofs (
    miner        TEXT   NOT NULL,
    -- The first epoch of the proving period.
    period       BIGINT NOT NULL,
    deadline     BIGINT NOT NULL,
    "partition"  BIGINT NOT NULL,

    challenge    BIGINT NOT NULL,
    opens        BIGINT NOT NULL,
    closes       BIGINT NOT NULL,
    -- The challenge's randomness, masked, in hexadecimal.
    randomness   TEXT   NOT NULL,
    state        TEXT   NOT NULL CHECK (state IN ('making', 'proved', 'asked', 'landed', 'nothing', 'missed')),
    -- How many sectors are to be proven, and how many of them are recovering.
    sectors      BIGINT NOT NULL CHECK (sectors >= 0),
    recovering   BIGINT NOT NULL CHECK (recovering BETWEEN 0 AND sectors),
    -- The attempts to prove, as JSON.
    attempts     TEXT   NOT NULL,
    -- The verified proof, in hexadecimal.
    proof        TEXT,
    -- The sectors that it leaves out, with causes, as JSON.
    skipped      TEXT   NOT NULL,
    errand       BIGINT REFERENCES errands (id),
    read_epoch   BIGINT,
    proved_epoch BIGINT,
    landed_epoch BIGINT,
    told         TEXT   NOT NULL,
    problem      TEXT,

    PRIMARY KEY (miner, period, deadline, "partition"),
    CHECK (state NOT IN ('proved', 'asked', 'landed') OR proof IS NOT NULL),
    CHECK (state <> 'asked' OR errand IS NOT NULL),
    CHECK ((state = 'landed') = (landed_epoch IS NOT NULL))
);
CREATE INDEX partition_proofs_open ON partition_proofs (closes) WHERE state IN ('making', 'proved', 'asked');
CREATE INDEX partition_proofs_by_time ON partition_proofs (opens, miner);

-- The proof of a partition may wait as well.
ALTER TABLE waits DROP CONSTRAINT waits_kind_check;
ALTER TABLE waits ADD CONSTRAINT waits_kind_check
    CHECK (kind IN ('sector', 'message', 'miner', 'store', 'node', 'bus', 'outbox', 'database', 'proof'));
