-- Messages: bytes that nobody wants any more are withdrawn, which means that a self-transfer takes their nonce; a message
-- whose nonce something else used is replaced. A filler is such a self-transfer, and so is one into a gap that another
-- tool left: its nonce is fixed before its bytes are. The head when a message was signed says how far back it need be looked for.
-- How often a purpose was tried in vain, with how much gas it must be tried next, and since when the node refuses to estimate
-- it are kept with each message. SQLite cannot change a CHECK, so the
-- table is made anew.
CREATE TABLE messages_new (
    key           TEXT   PRIMARY KEY,
    kind          TEXT   NOT NULL CHECK (kind IN ('precommit', 'prove_commit', 'filler')),
    miner         TEXT   NOT NULL,
    number        BIGINT NOT NULL,
    attempt       BIGINT NOT NULL DEFAULT 1,
    turn          BIGINT NOT NULL DEFAULT 1,
    state         TEXT   NOT NULL
        CHECK (state IN ('wanted', 'signed', 'pushed', 'withdrawn', 'landed', 'failed', 'replaced')),
    sender        TEXT,
    nonce         BIGINT,
    cid           TEXT,
    signed        BLOB,
    signed_epoch  BIGINT,
    pushed_epoch  BIGINT,
    landed_epoch  BIGINT,
    exit_code     BIGINT,
    -- Why it is over without its effect, or on the way there.
    error         TEXT,
    -- How many messages for its purpose were executed in vain before this one.
    failures      BIGINT NOT NULL DEFAULT 0 CHECK (failures >= 0),
    -- The least gas limit to sign it with, after one that did not suffice.
    gas_limit_min BIGINT,
    -- The head when the node first refused to estimate it.
    refused_epoch BIGINT,
    CHECK ((nonce IS NOT NULL) = (sender IS NOT NULL)),
    CHECK ((signed IS NOT NULL) = (cid IS NOT NULL)),
    CHECK ((signed IS NOT NULL) = (nonce IS NOT NULL) OR kind = 'filler'),
    CHECK (nonce IS NOT NULL OR kind <> 'filler'),
    CHECK (signed IS NOT NULL OR state IN ('wanted', 'failed', 'replaced')),
    CHECK (signed IS NULL OR state <> 'wanted'),
    CHECK (pushed_epoch IS NOT NULL OR state NOT IN ('pushed', 'landed')),
    CHECK (landed_epoch IS NOT NULL OR state <> 'landed'),
    CHECK ((error IS NOT NULL) = (state IN ('withdrawn', 'failed', 'replaced')))
);
INSERT INTO messages_new (
    key, kind, miner, number, attempt, turn, state, sender, nonce, cid, signed, pushed_epoch, landed_epoch, exit_code, error)
SELECT key, kind, miner, number, attempt, turn, state, sender, nonce, cid, signed, pushed_epoch, landed_epoch, exit_code, error
FROM messages;
DROP TABLE messages;
ALTER TABLE messages_new RENAME TO messages;
-- One call a nonce, and beside it at most one filler, whose key names its nonce.
CREATE UNIQUE INDEX messages_by_nonce ON messages (sender, nonce) WHERE nonce IS NOT NULL AND kind <> 'filler';
CREATE UNIQUE INDEX messages_by_purpose ON messages (kind, miner, number, attempt, turn) WHERE kind <> 'filler';
CREATE INDEX messages_open ON messages (state) WHERE state IN ('wanted', 'signed', 'pushed', 'withdrawn');

-- Earlier bytes of a message: the same call with the same nonce, for another fee. Any of them may be the one that lands.
CREATE TABLE envelopes (
    message TEXT NOT NULL,
    cid     TEXT NOT NULL,
    signed  BLOB NOT NULL,
    PRIMARY KEY (message, cid)
);
