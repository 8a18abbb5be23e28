-- Sectors: the states of a rebuild and of a sector that a person gave up; how often a sector was offered since a person
-- last looked, the last order to resubmit, and the number of seeds drawn. The table is made anew, as for SQLite.
CREATE TABLE sectors_new (
    miner            TEXT    NOT NULL,
    number           BIGINT  NOT NULL,
    proof            TEXT    NOT NULL,
    -- Each attempt has a ticket of its own; a rebuild belongs to the attempt that it repeats.
    attempt          BIGINT  NOT NULL CHECK (attempt >= 1),
    issues           BIGINT  NOT NULL CHECK (issues >= 0),
    resubmits        BIGINT  NOT NULL CHECK (resubmits >= 0),
    -- Whether a PreCommit of this attempt has left, or may have left, and not failed.
    precommit_signed BIGINT  NOT NULL CHECK (precommit_signed IN (0, 1)),
    created_at       TEXT    NOT NULL,
    changed_at       TEXT    NOT NULL,

    -- Ownership, folded from lease records. `leased_at` is the server's time of the last one.
    owner            TEXT,
    last_lease       BIGINT  NOT NULL,
    last_event       BIGINT  NOT NULL,
    leased_at        TEXT,

    state            TEXT    NOT NULL CHECK (state IN (
        'queued', 'packing', 'drawing_ticket', 'sealing', 'pre_committing', 'persisting', 'checking_files',
        'awaiting_seed', 'committing', 'verifying_proof', 'prove_committing', 'cleaning', 'proving',
        'requeued', 'rebuilding', 'aborting', 'abandoning', 'aborted')),
    draw             BIGINT,
    ticket           TEXT,
    comm_r           TEXT,
    comm_d           TEXT,
    precommit        TEXT,
    seeds_drawn      BIGINT,
    files            TEXT,
    seed             TEXT,
    proof_bytes      BYTEA,
    activation_epoch BIGINT,
    cause            TEXT,
    -- Why a person must look; independent of the state that the sector stands at.
    blocked          TEXT,

    PRIMARY KEY (miner, number),
    CHECK ((draw IS NOT NULL) = (state = 'drawing_ticket')),
    CHECK ((ticket IS NOT NULL) = (state IN (
        'sealing', 'pre_committing', 'persisting', 'checking_files', 'awaiting_seed', 'committing', 'verifying_proof',
        'prove_committing', 'cleaning', 'proving', 'requeued', 'rebuilding'))),
    CHECK ((comm_r IS NOT NULL) = (state IN (
        'pre_committing', 'persisting', 'checking_files', 'awaiting_seed', 'committing', 'verifying_proof',
        'prove_committing', 'cleaning', 'proving', 'requeued', 'rebuilding'))),
    CHECK ((comm_d IS NOT NULL) = (comm_r IS NOT NULL)),
    CHECK (state IN ('requeued', 'rebuilding') OR (precommit IS NOT NULL) = (state IN (
        'persisting', 'checking_files', 'awaiting_seed', 'committing', 'verifying_proof', 'prove_committing',
        'cleaning', 'proving'))),
    CHECK ((seeds_drawn IS NOT NULL) = (precommit IS NOT NULL)),
    CHECK ((files IS NOT NULL) = (state IN (
        'checking_files', 'awaiting_seed', 'committing', 'verifying_proof', 'prove_committing', 'cleaning',
        'proving'))),
    CHECK ((seed IS NOT NULL) = (state IN (
        'committing', 'verifying_proof', 'prove_committing', 'cleaning', 'proving'))),
    CHECK ((proof_bytes IS NOT NULL) = (state IN ('verifying_proof', 'prove_committing', 'cleaning', 'proving'))),
    CHECK ((activation_epoch IS NOT NULL) = (state IN ('cleaning', 'proving'))),
    CHECK ((cause IS NOT NULL) = (state IN ('aborting', 'abandoning', 'aborted')))
);
INSERT INTO sectors_new (
    miner, number, proof, attempt, issues, resubmits, precommit_signed, created_at, changed_at, owner, last_lease,
    last_event, leased_at, state, draw, ticket, comm_r, comm_d, precommit, seeds_drawn, files, seed, proof_bytes, activation_epoch, cause,
    blocked)
SELECT
    miner, number, proof, attempt, attempt, 0,
    CASE WHEN EXISTS (SELECT 1 FROM messages m WHERE m.kind = 'precommit' AND m.miner = sectors.miner AND m.number = sectors.number
        AND m.key = 'precommit/' || sectors.miner || '/' || sectors.number || '/' || sectors.attempt
        AND m.state IN ('signed', 'pushed', 'landed')) THEN 1 ELSE 0 END,
    created_at, changed_at, owner, last_lease, last_event, NULL,
    state, CASE WHEN state = 'drawing_ticket' THEN draw END, ticket, comm_r, comm_d, precommit,
    CASE WHEN precommit IS NULL THEN NULL
         WHEN state = 'awaiting_seed' THEN draw - 1
         WHEN seed IS NOT NULL THEN CAST(CAST(seed AS JSON) ->> 'draw' AS BIGINT)
         ELSE 0 END,
    files, seed, proof_bytes, activation_epoch, cause, blocked
FROM sectors;
DROP TABLE sectors;
ALTER TABLE sectors_new RENAME TO sectors;
ALTER INDEX sectors_new_pkey RENAME TO sectors_pkey;
CREATE INDEX sectors_by_state ON sectors (state);
CREATE INDEX sectors_by_owner ON sectors (owner) WHERE owner IS NOT NULL;

-- Messages: the attempt that each belongs to, and its turn: a person may order another one after the last has failed.
ALTER TABLE messages ADD COLUMN attempt BIGINT NOT NULL DEFAULT 1;
ALTER TABLE messages ADD COLUMN turn BIGINT NOT NULL DEFAULT 1;
-- The keys of version 1 end in the attempt.
UPDATE messages SET attempt = CAST(substring(key FROM '[0-9]+$') AS BIGINT);
CREATE UNIQUE INDEX messages_by_purpose ON messages (kind, miner, number, attempt, turn);

-- The outbox also purges the events of ended sectors.
CREATE TABLE outbox_new (
    id             BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    kind           TEXT   NOT NULL CHECK (kind IN ('intent', 'fact', 'release', 'purge')),
    miner          TEXT   NOT NULL,
    number         BIGINT NOT NULL,
    -- Whom a fact is for.
    worker         TEXT,
    -- The sector's last lease record when the row was written.
    lease_sequence BIGINT NOT NULL,
    payload        BYTEA  NOT NULL,
    CHECK ((worker IS NOT NULL) = (kind = 'fact'))
);
INSERT INTO outbox_new (id, kind, miner, number, worker, lease_sequence, payload)
SELECT id, kind, miner, number, worker, lease_sequence, payload FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_new RENAME TO outbox;
ALTER INDEX outbox_new_pkey RENAME TO outbox_pkey;
SELECT setval(pg_get_serial_sequence('outbox', 'id'), COALESCE((SELECT MAX(id) FROM outbox), 0) + 1, false);

-- Who ordered what, of which sector or worker, and why.
CREATE TABLE audit (
    id     BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    at     TEXT NOT NULL,
    actor  TEXT NOT NULL,
    -- Such as `sectors resubmit`.
    verb   TEXT NOT NULL,
    -- A sector, a worker, or a worker's slot.
    target TEXT NOT NULL,
    why    TEXT NOT NULL,
    detail TEXT NOT NULL
);

-- What a person wants of a machine. Published whenever `published` is behind `revision`.
CREATE TABLE worker_orders (
    worker    TEXT   PRIMARY KEY,
    revision  BIGINT NOT NULL CHECK (revision >= 1),
    published BIGINT NOT NULL DEFAULT 0,
    drain     BIGINT NOT NULL CHECK (drain IN (0, 1))
);
CREATE TABLE slot_releases (
    id     BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    worker TEXT NOT NULL,
    slot   TEXT NOT NULL,
    at     TEXT NOT NULL,
    -- When the worker's heartbeat said that it is carried out.
    done_at TEXT
);
