-- Until now one row was three things at once. Now there is a table for each: what is *wanted* on chain, the *calls* that do
-- it, and the *envelopes* of a call, which differ in their fees.
ALTER TABLE messages RENAME TO messages_old;
ALTER TABLE envelopes RENAME TO envelopes_old;

-- One row per purpose.
CREATE TABLE wants (
    id            INTEGER PRIMARY KEY,
    job           BIGINT NOT NULL REFERENCES jobs (id),
    -- The job's sector.
    miner         TEXT   NOT NULL,
    number        BIGINT NOT NULL,
    kind          TEXT   NOT NULL CHECK (kind IN ('precommit', 'prove_commit')),
    attempt       BIGINT NOT NULL CHECK (attempt >= 1),
    -- Counts the sector's wants of this kind and attempt, whatever their job. So no two wants have the same name.
    turn          BIGINT NOT NULL CHECK (turn >= 1),
    -- 'called': it has a call, which may land. 'withdrawn': the same, but nobody wants it any more.
    state         TEXT   NOT NULL CHECK (state IN ('wanted', 'called', 'withdrawn', 'landed', 'failed')),
    -- How often the same was tried in vain before, in calls that were executed.
    failures      BIGINT NOT NULL DEFAULT 0 CHECK (failures >= 0),
    -- The least gas limit to sign it with, after one that did not suffice.
    gas_limit_min BIGINT,
    -- The head when the node first refused to estimate it.
    refused_epoch BIGINT,
    -- Why it ended without its effect, or was withdrawn.
    error         TEXT,
    UNIQUE (miner, number, kind, attempt, turn),
    CHECK ((error IS NOT NULL) = (state IN ('withdrawn', 'failed')))
);
CREATE INDEX wants_open ON wants (state) WHERE state IN ('wanted', 'called', 'withdrawn');

-- One row per nonce that we took. A call keeps its nonce for ever.
CREATE TABLE calls (
    id           INTEGER PRIMARY KEY,
    kind         TEXT   NOT NULL CHECK (kind IN ('precommit', 'prove_commit', 'filler')),
    miner        TEXT   NOT NULL,
    -- The sector on whose behalf a filler is sent. Other calls have wants.
    number       BIGINT,
    -- 'reserved': a filler that is not signed yet. 'withdrawn': a filler is to take its nonce.
    state        TEXT   NOT NULL
        CHECK (state IN ('reserved', 'signed', 'pushed', 'withdrawn', 'landed', 'failed', 'replaced')),
    sender       TEXT   NOT NULL,
    nonce        BIGINT NOT NULL,
    -- The serial of its last envelope, which is the one that is pushed.
    envelope     BIGINT,
    -- The head when it was signed says how far back it must be searched for.
    signed_epoch BIGINT,
    pushed_epoch BIGINT,
    landed_epoch BIGINT,
    exit_code    BIGINT,
    -- Why it ended without its effect, or was withdrawn.
    error        TEXT,
    UNIQUE (id, state),
    FOREIGN KEY (id, envelope) REFERENCES envelopes (call, serial) DEFERRABLE INITIALLY DEFERRED,
    CHECK ((number IS NOT NULL) = (kind = 'filler')),
    CHECK (envelope IS NOT NULL OR (kind = 'filler' AND state IN ('reserved', 'failed', 'replaced'))),
    CHECK (envelope IS NULL OR state <> 'reserved'),
    CHECK (pushed_epoch IS NOT NULL OR state NOT IN ('pushed', 'landed')),
    CHECK (landed_epoch IS NOT NULL OR state <> 'landed'),
    CHECK ((error IS NOT NULL) = (state IN ('withdrawn', 'failed', 'replaced')))
);
-- One call per nonce, and beside it at most one filler.
CREATE UNIQUE INDEX calls_by_nonce ON calls (sender, nonce, (kind = 'filler'));
CREATE INDEX calls_open ON calls (state) WHERE state IN ('reserved', 'signed', 'pushed', 'withdrawn');

-- The wants that a call carries, in the order of its parameters.
CREATE TABLE call_wants (
    call     BIGINT NOT NULL,
    position BIGINT NOT NULL CHECK (position >= 0),
    want     BIGINT NOT NULL REFERENCES wants (id),
    -- The call's state.
    state    TEXT   NOT NULL,
    PRIMARY KEY (call, position),
    FOREIGN KEY (call, state) REFERENCES calls (id, state) ON UPDATE CASCADE
);
-- A want has at most one call that can take effect.
CREATE UNIQUE INDEX call_wants_effective ON call_wants (want) WHERE state NOT IN ('failed', 'replaced');

-- The signed bytes of a call. Another fee makes another envelope with the same nonce, and any of them may be the one that
-- lands.
CREATE TABLE envelopes (
    call         BIGINT NOT NULL REFERENCES calls (id),
    -- Counts the call's envelopes from 1.
    serial       BIGINT NOT NULL CHECK (serial >= 1),
    cid          TEXT   NOT NULL,
    signed       BLOB   NOT NULL,
    -- The fees that the bytes contain; NULL for envelopes of earlier versions. Amounts in attoFIL do not fit into a BIGINT.
    gas_limit    BIGINT,
    fee_cap      TEXT,
    premium      TEXT,
    PRIMARY KEY (call, serial)
);

-- Each message of before becomes a want, a call, or both, with the same id.
INSERT INTO wants (id, job, miner, number, kind, attempt, turn, state, failures, gas_limit_min, refused_epoch, error)
SELECT
    old.rowid, jobs.id, old.miner, old.number, old.kind, old.attempt, old.turn,
    CASE WHEN old.state IN ('signed', 'pushed') THEN 'called' WHEN old.state = 'replaced' THEN 'failed' ELSE old.state END,
    old.failures, old.gas_limit_min, old.refused_epoch, old.error
FROM messages_old AS old
    LEFT JOIN jobs ON jobs.miner = old.miner AND jobs.number = old.number AND jobs.workflow = 'seal'
WHERE old.kind <> 'filler'
ORDER BY old.rowid;

INSERT INTO calls (
    id, kind, miner, number, state, sender, nonce, envelope, signed_epoch, pushed_epoch, landed_epoch, exit_code, error)
SELECT
    old.rowid, old.kind, old.miner, CASE WHEN old.kind = 'filler' THEN old.number END,
    CASE WHEN old.state = 'wanted' THEN 'reserved' ELSE old.state END, old.sender, old.nonce,
    CASE WHEN old.signed IS NOT NULL THEN 1 + (SELECT COUNT(*) FROM envelopes_old WHERE message = old.key) END,
    old.signed_epoch, old.pushed_epoch, old.landed_epoch, old.exit_code, old.error
FROM messages_old AS old
WHERE old.nonce IS NOT NULL
ORDER BY old.rowid;

INSERT INTO call_wants (call, position, want, state)
SELECT calls.id, 0, calls.id, calls.state FROM calls WHERE calls.kind <> 'filler' ORDER BY calls.id;

INSERT INTO envelopes (call, serial, cid, signed)
SELECT old.rowid, ROW_NUMBER() OVER (PARTITION BY old.rowid ORDER BY earlier.rowid), earlier.cid, earlier.signed
FROM envelopes_old AS earlier JOIN messages_old AS old ON old.key = earlier.message;
INSERT INTO envelopes (call, serial, cid, signed)
SELECT calls.id, calls.envelope, old.cid, old.signed
FROM calls JOIN messages_old AS old ON old.rowid = calls.id
WHERE calls.envelope IS NOT NULL;

DROP TABLE envelopes_old;
DROP TABLE messages_old;
