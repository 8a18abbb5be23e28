-- Sectors: a version that rises with each change, so that a process which keeps a sector in memory can tell whether it is
-- still the one in the database. And checks without lists, which SQLite makes tables of that it looks things up in: of which
-- columns a state has, one comparison; as one a column, each with its list of states, they were most of what storing a sector
-- costs. SQLite cannot change a CHECK, so the tables are made anew.
CREATE TABLE sectors_new (
    miner            TEXT    NOT NULL,
    number           BIGINT  NOT NULL,
    proof            TEXT    NOT NULL,
    -- Each attempt has a ticket of its own; a rebuild belongs to the attempt that it repeats.
    attempt          BIGINT  NOT NULL CHECK (attempt >= 1),
    issues           BIGINT  NOT NULL CHECK (issues >= 0),
    resubmits        BIGINT  NOT NULL CHECK (resubmits >= 0),
    -- Whether a PreCommit of this attempt has left, or may have left, and not failed.
    precommit_signed BIGINT  NOT NULL CHECK (precommit_signed BETWEEN 0 AND 1),
    created_at       TEXT    NOT NULL,
    changed_at       TEXT    NOT NULL,
    version          BIGINT  NOT NULL DEFAULT 0,

    -- Ownership, folded from lease records. `leased_at` is the server's time of the last one.
    owner            TEXT,
    last_lease       BIGINT  NOT NULL,
    last_event       BIGINT  NOT NULL,
    leased_at        TEXT,

    state            TEXT    NOT NULL,
    draw             BIGINT,
    ticket           TEXT,
    comm_r           TEXT,
    comm_d           TEXT,
    precommit        TEXT,
    seeds_drawn      BIGINT,
    files            TEXT,
    seed             TEXT,
    proof_bytes      BLOB,
    activation_epoch BIGINT,
    cause            TEXT,
    -- Why a person must look; independent of the state that the sector stands at.
    blocked          TEXT,

    PRIMARY KEY (miner, number),
    -- Which columns a sector of each state has. A rebuild has what its PreCommit left on chain, if it had landed.
    CHECK (
        (draw IS NOT NULL) + 2 * (ticket IS NOT NULL) + 4 * (comm_r IS NOT NULL) + 8 * (comm_d IS NOT NULL)
            + 16 * (precommit IS NOT NULL) + 32 * (seeds_drawn IS NOT NULL) + 64 * (files IS NOT NULL)
            + 128 * (seed IS NOT NULL) + 256 * (proof_bytes IS NOT NULL) + 512 * (activation_epoch IS NOT NULL)
            + 1024 * (cause IS NOT NULL)
        = CASE state
            WHEN 'queued' THEN 0
            WHEN 'packing' THEN 0
            WHEN 'drawing_ticket' THEN 1
            WHEN 'sealing' THEN 2
            WHEN 'pre_committing' THEN 2 + 4 + 8
            WHEN 'persisting' THEN 2 + 4 + 8 + 16 + 32
            WHEN 'checking_files' THEN 2 + 4 + 8 + 16 + 32 + 64
            WHEN 'awaiting_seed' THEN 2 + 4 + 8 + 16 + 32 + 64
            WHEN 'committing' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128
            WHEN 'verifying_proof' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256
            WHEN 'prove_committing' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256
            WHEN 'cleaning' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256 + 512
            WHEN 'proving' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256 + 512
            WHEN 'requeued' THEN 2 + 4 + 8 + (16 + 32) * (precommit IS NOT NULL)
            WHEN 'rebuilding' THEN 2 + 4 + 8 + (16 + 32) * (precommit IS NOT NULL)
            WHEN 'aborting' THEN 1024
            WHEN 'abandoning' THEN 1024
            WHEN 'aborted' THEN 1024
            ELSE -1
        END)
);
INSERT INTO sectors_new (
    miner, number, proof, attempt, issues, resubmits, precommit_signed, created_at, changed_at, owner, last_lease,
    last_event, leased_at, state, draw, ticket, comm_r, comm_d, precommit, seeds_drawn, files, seed, proof_bytes,
    activation_epoch, cause, blocked)
SELECT
    miner, number, proof, attempt, issues, resubmits, precommit_signed, created_at, changed_at, owner, last_lease,
    last_event, leased_at, state, draw, ticket, comm_r, comm_d, precommit, seeds_drawn, files, seed, proof_bytes,
    activation_epoch, cause, blocked
FROM sectors;
DROP TABLE sectors;
ALTER TABLE sectors_new RENAME TO sectors;
CREATE INDEX sectors_by_state ON sectors (state);
CREATE INDEX sectors_by_owner ON sectors (owner) WHERE owner IS NOT NULL;
CREATE TRIGGER sectors_version BEFORE UPDATE ON sectors WHEN NEW.version <= OLD.version
BEGIN
    SELECT RAISE(ABORT, 'a change of a sector must raise its version');
END;

CREATE TABLE history_new (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    miner    TEXT   NOT NULL,
    number   BIGINT NOT NULL,
    at       TEXT   NOT NULL,
    sequence BIGINT,
    actor    TEXT   NOT NULL,
    token    BIGINT,
    kind     TEXT   NOT NULL,
    detail   TEXT   NOT NULL,
    verdict  TEXT   NOT NULL
        CHECK (verdict = 'applied' OR verdict = 'noted' OR verdict = 'illegal' OR verdict = 'fenced')
);
INSERT INTO history_new SELECT id, miner, number, at, sequence, actor, token, kind, detail, verdict FROM history;
DROP TABLE history;
ALTER TABLE history_new RENAME TO history;
CREATE INDEX history_by_sector ON history (miner, number, id);
