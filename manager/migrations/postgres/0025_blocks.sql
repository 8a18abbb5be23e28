-- The epochs that miners have won: one row for each, so that a miner never makes two blocks for one epoch. Rows stay.
CREATE TABLE blocks (
    miner      TEXT   NOT NULL,
    epoch      BIGINT NOT NULL,
    -- From 'claimed' on the node may have signed a block. No other one is made for the epoch, whatever happens.
    state      TEXT   NOT NULL
               CHECK (state IN ('making', 'claimed', 'created', 'submitted', 'included', 'orphaned', 'lost')),
    -- How often the epoch was won.
    wins       BIGINT NOT NULL CHECK (wins >= 1),
    sector     BIGINT,
    -- The epoch of the base.
    base_epoch BIGINT NOT NULL CHECK (base_epoch < epoch),
    -- The base that the block was claimed for: CIDs, joined by commas.
    parents    TEXT,
    -- The signed block as JSON, until it is known what became of it.
    block      TEXT,
    -- Its CID, once it is on chain.
    cid        TEXT,
    -- How long each step took, as JSON.
    steps      TEXT   NOT NULL,
    -- The time from the beginning of the work to the block's time, and how much of it was left when the block was made.
    budget_ms  BIGINT,
    margin_ms  BIGINT,
    problem    TEXT,
    won_at     TEXT   NOT NULL,

    PRIMARY KEY (miner, epoch),
    CHECK (state IN ('making', 'lost') OR parents IS NOT NULL),
    CHECK (state <> 'created' OR block IS NOT NULL),
    CHECK ((state = 'included') = (cid IS NOT NULL))
);
-- Two blocks of one miner with the same parents are a fault as well, even if their epochs differ.
CREATE UNIQUE INDEX blocks_by_parents ON blocks (miner, parents);
CREATE INDEX blocks_open ON blocks (miner) WHERE state IN ('making', 'claimed', 'created', 'submitted');

-- Winning PoSts that were made without having won, to see that they are made in time.
CREATE TABLE rehearsals (
    miner     TEXT   NOT NULL,
    epoch     BIGINT NOT NULL,
    sector    BIGINT NOT NULL,
    steps     TEXT   NOT NULL,
    -- The time that there was.
    budget_ms BIGINT NOT NULL,
    problem   TEXT,
    at        TEXT   NOT NULL,
    PRIMARY KEY (miner, epoch)
);

-- The blocks of a miner may wait as well.
ALTER TABLE waits DROP CONSTRAINT waits_kind_check;
ALTER TABLE waits ADD CONSTRAINT waits_kind_check
    CHECK (kind IN ('sector', 'message', 'miner', 'store', 'node', 'bus', 'outbox', 'database', 'proof', 'blocks'));
