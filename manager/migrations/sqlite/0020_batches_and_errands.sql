-- Calls may carry many sectors, and people may ask for messages of their own: errands.

-- The most sectors that a call for this want may carry, after a larger one has failed as a whole. NULL: any number.
ALTER TABLE wants ADD COLUMN batch_max BIGINT CHECK (batch_max >= 1);
-- The head when the driver first saw that it may be signed. How long it waits for others counts from there.
ALTER TABLE wants ADD COLUMN ready_epoch BIGINT;
-- 1: a person does not want it to wait for others.
ALTER TABLE wants ADD COLUMN hurried BIGINT NOT NULL DEFAULT 0 CHECK (hurried IN (0, 1));

-- Messages that a person or a policy asked for. What they say is fixed from the beginning.
CREATE TABLE errands (
    id        INTEGER PRIMARY KEY,
    miner     TEXT   NOT NULL,
    -- What it does, for people.
    kind      TEXT   NOT NULL,
    sender    TEXT   NOT NULL,
    receiver  TEXT   NOT NULL,
    method    BIGINT NOT NULL CHECK (method >= 0),
    params    BLOB   NOT NULL,
    -- In attoFIL.
    value     TEXT   NOT NULL,
    -- What it is about, as JSON.
    detail    TEXT   NOT NULL,
    asked_by  TEXT   NOT NULL,
    asked_at  TEXT   NOT NULL,
    -- 'called': it has a call, which may land. 'withdrawn': the same, but nobody wants it any more.
    state     TEXT   NOT NULL CHECK (state IN ('wanted', 'called', 'withdrawn', 'landed', 'failed', 'cancelled')),
    -- Of its call, if it was executed.
    epoch     BIGINT,
    exit_code BIGINT,
    returned  BLOB  ,
    -- Why it ended without its effect, or was withdrawn.
    error     TEXT,
    CHECK ((error IS NOT NULL) = (state IN ('withdrawn', 'failed', 'cancelled'))),
    CHECK (epoch IS NOT NULL OR state <> 'landed')
);
CREATE INDEX errands_open ON errands (state) WHERE state IN ('wanted', 'called', 'withdrawn');

-- SQLite cannot change a CHECK, so the tables are copied.
ALTER TABLE calls RENAME TO calls_old;
ALTER TABLE call_wants RENAME TO call_wants_old;
ALTER TABLE envelopes RENAME TO envelopes_old;
DROP INDEX calls_by_nonce;
DROP INDEX calls_open;
DROP INDEX call_wants_effective;

CREATE TABLE calls (
    id           INTEGER PRIMARY KEY,
    kind         TEXT   NOT NULL CHECK (kind IN ('precommit', 'prove_commit', 'filler', 'errand')),
    miner        TEXT   NOT NULL,
    -- The sector on whose behalf a filler is sent, if any. Other calls have wants or an errand.
    number       BIGINT,
    errand       BIGINT REFERENCES errands (id),
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
    CHECK (number IS NULL OR kind = 'filler'),
    CHECK ((errand IS NOT NULL) = (kind = 'errand')),
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

INSERT INTO calls (
    id, kind, miner, number, state, sender, nonce, envelope, signed_epoch, pushed_epoch, landed_epoch, exit_code, error)
SELECT
    id, kind, miner, number, state, sender, nonce, envelope, signed_epoch, pushed_epoch, landed_epoch, exit_code, error
FROM calls_old ORDER BY id;
INSERT INTO call_wants (call, position, want, state) SELECT call, position, want, state FROM call_wants_old;
INSERT INTO envelopes (call, serial, cid, signed, gas_limit, fee_cap, premium)
SELECT call, serial, cid, signed, gas_limit, fee_cap, premium FROM envelopes_old;
-- Each of the two names the other.
UPDATE calls_old SET envelope = NULL, state = 'reserved', kind = 'filler', number = 0, error = NULL;
DROP TABLE call_wants_old;
DROP TABLE envelopes_old;
DROP TABLE calls_old;

-- An errand has at most one call that can take effect.
CREATE UNIQUE INDEX calls_of_errands ON calls (errand) WHERE errand IS NOT NULL AND state NOT IN ('failed', 'replaced');

-- A message may be about no sector.
ALTER TABLE waits RENAME TO waits_old;
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
    CHECK (sector IS NOT NULL OR kind NOT IN ('sector', 'outbox')),
    CHECK (sector IS NULL OR kind IN ('sector', 'message', 'outbox'))
);
INSERT INTO waits (kind, name, sector, class, code, cause, since, tried_at, retry_ms, tries)
SELECT kind, name, sector, class, code, cause, since, tried_at, retry_ms, tries FROM waits_old;
DROP TABLE waits_old;
