-- Calls that Venus' messager sends: it gives the nonce, estimates the gas and signs. Such a call has an id of ours instead of a
-- nonce. Its envelopes are what the messager has signed for it, as far as we have seen.

-- SQLite cannot change a CHECK, so the tables are copied.
ALTER TABLE calls RENAME TO calls_old;
ALTER TABLE call_wants RENAME TO call_wants_old;
ALTER TABLE envelopes RENAME TO envelopes_old;
DROP INDEX calls_by_nonce;
DROP INDEX calls_open;
DROP INDEX calls_of_errands;
DROP INDEX call_wants_effective;

CREATE TABLE calls (
    id           INTEGER PRIMARY KEY,
    kind         TEXT   NOT NULL CHECK (kind IN ('precommit', 'prove_commit', 'filler', 'errand')),
    miner        TEXT   NOT NULL,
    -- The sector on whose behalf a filler is sent, if any. Other calls have wants or an errand.
    number       BIGINT,
    errand       BIGINT REFERENCES errands (id),
    -- 'reserved': a filler that is not signed yet. 'withdrawn': a filler is to take its nonce. Of a call that the messager
    -- sends: 'signed': it is unknown whether the messager has it. 'pushed': it has. 'withdrawn': it may still land.
    state        TEXT   NOT NULL
        CHECK (state IN ('reserved', 'signed', 'pushed', 'withdrawn', 'landed', 'failed', 'replaced')),
    sender       TEXT   NOT NULL,
    -- NULL: the messager sends it.
    nonce        BIGINT,
    -- Our id at the messager.
    uid          TEXT   UNIQUE,
    -- The message in CBOR, without nonce and fees. The gas limit is 0 if the messager is to estimate it.
    unsigned     BLOB,
    -- The most gas fees that it may cost, in attoFIL.
    max_fee      TEXT,
    -- The serial of its last envelope, which is the one that is pushed.
    envelope     BIGINT,
    -- The head when it was signed, or fixed, says how far back it must be searched for.
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
    CHECK ((uid IS NOT NULL) = (nonce IS NULL)),
    CHECK ((uid IS NOT NULL) = (unsigned IS NOT NULL)),
    CHECK ((uid IS NOT NULL) = (max_fee IS NOT NULL)),
    CHECK (uid IS NULL OR (kind <> 'filler' AND signed_epoch IS NOT NULL)),
    CHECK (envelope IS NOT NULL OR uid IS NOT NULL
        OR (kind = 'filler' AND state IN ('reserved', 'failed', 'replaced'))),
    CHECK (envelope IS NULL OR state <> 'reserved'),
    CHECK (uid IS NULL OR state <> 'reserved'),
    CHECK (pushed_epoch IS NOT NULL OR state NOT IN ('pushed', 'landed')),
    CHECK (landed_epoch IS NOT NULL OR state <> 'landed'),
    CHECK ((error IS NOT NULL) = (state IN ('withdrawn', 'failed', 'replaced')))
);
-- One call per nonce that we took, and beside it at most one filler.
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
    id, kind, miner, number, errand, state, sender, nonce, envelope, signed_epoch, pushed_epoch, landed_epoch, exit_code, error)
SELECT
    id, kind, miner, number, errand, state, sender, nonce, envelope, signed_epoch, pushed_epoch, landed_epoch, exit_code, error
FROM calls_old ORDER BY id;
INSERT INTO call_wants (call, position, want, state) SELECT call, position, want, state FROM call_wants_old;
INSERT INTO envelopes (call, serial, cid, signed, gas_limit, fee_cap, premium)
SELECT call, serial, cid, signed, gas_limit, fee_cap, premium FROM envelopes_old;
-- Each of the two names the other.
UPDATE calls_old SET envelope = NULL, state = 'reserved', kind = 'filler', number = 0, errand = NULL, error = NULL;
DROP TABLE call_wants_old;
DROP TABLE envelopes_old;
DROP TABLE calls_old;

-- An errand has at most one call that can take effect.
CREATE UNIQUE INDEX calls_of_errands ON calls (errand) WHERE errand IS NOT NULL AND state NOT IN ('failed', 'replaced');
