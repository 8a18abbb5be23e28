-- Until now one row held a sector's number, its job and the data of sealing. Now there are three kinds of rows. `sectors`
-- says what exists. `jobs` has what all workflows have in common. Each workflow has a narrow table with the data of its
-- states.
ALTER TABLE sectors RENAME TO sectors_old;

-- Every number that was ever given out. Rows are never deleted, so that no number is given out twice.
CREATE TABLE sectors (
    miner            TEXT   NOT NULL,
    number           BIGINT NOT NULL,
    proof            TEXT   NOT NULL,
    created_at       TEXT   NOT NULL,
    -- Where its files are: the permanent store's name, and a `StoredSector` as JSON.
    store            TEXT,
    files            TEXT,
    -- What the chain has, once the sector is active.
    comm_r           TEXT,
    comm_d           TEXT,
    activation_epoch BIGINT,

    PRIMARY KEY (miner, number),
    CHECK ((files IS NULL) = (store IS NULL)),
    CHECK ((comm_r IS NULL) = (activation_epoch IS NULL)),
    CHECK ((comm_d IS NULL) = (activation_epoch IS NULL))
);
INSERT INTO sectors (miner, number, proof, created_at, store, files, comm_r, comm_d, activation_epoch)
SELECT miner, number, proof, created_at, json_extract(files, '$.store'), files,
    CASE WHEN activation_epoch IS NOT NULL THEN comm_r END,
    CASE WHEN activation_epoch IS NOT NULL THEN comm_d END,
    activation_epoch
FROM sectors_old;

-- One row per job: a workflow applied to a sector. A job that has ended is kept as a record.
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY,
    miner        TEXT   NOT NULL,
    number       BIGINT NOT NULL,
    workflow     TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    -- Whether this is the sector's last job.
    is_last      BIGINT NOT NULL CHECK (is_last BETWEEN 0 AND 1),
    -- Whether the job has ended.
    ended        BIGINT NOT NULL CHECK (ended BETWEEN 0 AND 1),
    -- The kind of the intent that is in the queue or about to be; NULL if the job is not offered.
    offered      TEXT,
    -- Each attempt has its own ticket. A rebuild belongs to the attempt that it repeats.
    attempt      BIGINT NOT NULL CHECK (attempt >= 1),
    -- How often it was offered since a person last decided, and how many orders to resubmit its last owner was given.
    issues       BIGINT NOT NULL CHECK (issues >= 0),
    resubmits    BIGINT NOT NULL CHECK (resubmits >= 0),
    -- Whether a message of this attempt was sent, or may have been sent, and has not failed.
    signed       BIGINT NOT NULL CHECK (signed BETWEEN 0 AND 1),
    created_at   TEXT   NOT NULL,
    changed_at   TEXT   NOT NULL,
    -- Rises with each change, so that a reader of the job can tell whether it has changed since.
    version      BIGINT NOT NULL DEFAULT 0,

    -- Ownership, folded from lease records: the owner's token, the stream in which it was granted if that stream was
    -- lost, the sector's last lease record, and the server's time of that record.
    owner        TEXT,
    token        BIGINT,
    token_stream TEXT,
    last_lease   BIGINT NOT NULL,
    last_event   BIGINT NOT NULL,
    leased_at    TEXT,

    -- Why a person must decide, if the job is blocked. Independent of the job's state.
    blocked      TEXT,

    UNIQUE (id, state),
    FOREIGN KEY (miner, number) REFERENCES sectors (miner, number),
    CHECK (is_last = 1 OR ended = 1),
    CHECK (ended = 0 OR offered IS NULL),
    CHECK ((owner IS NULL) = (token IS NULL))
);
INSERT INTO jobs (
    miner, number, workflow, state, is_last, ended, offered, attempt, issues, resubmits, signed, created_at, changed_at, version,
    owner, token, token_stream, last_lease, last_event, leased_at, blocked)
SELECT
    miner, number, 'seal', state, 1, CASE WHEN state IN ('proving', 'aborted') THEN 1 ELSE 0 END,
    CASE state WHEN 'queued' THEN 'seal' WHEN 'requeued' THEN 'rebuild' END,
    attempt, issues, resubmits, precommit_signed, created_at, changed_at, version,
    owner, CASE WHEN owner IS NOT NULL THEN COALESCE(token, last_lease) END, token_stream, last_lease, last_event, leased_at,
    blocked
FROM sectors_old
ORDER BY miner, number;
CREATE UNIQUE INDEX jobs_last ON jobs (miner, number) WHERE is_last = 1;
-- At most one unfinished job per sector. The index also serves the list of unfinished jobs.
CREATE UNIQUE INDEX jobs_unfinished ON jobs (miner, number) WHERE ended = 0;
CREATE INDEX jobs_offered ON jobs (miner, offered) WHERE offered IS NOT NULL;
CREATE INDEX jobs_by_owner ON jobs (owner) WHERE owner IS NOT NULL;
CREATE TRIGGER jobs_version BEFORE UPDATE ON jobs WHEN NEW.version <= OLD.version
BEGIN
    SELECT RAISE(ABORT, 'a change of a job must raise its version');
END;

-- Sealing: the data of its jobs' states. A job's row and this one are changed in one transaction and name the same state.
CREATE TABLE seal_jobs (
    job              INTEGER PRIMARY KEY,
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

    FOREIGN KEY (job, state) REFERENCES jobs (id, state) DEFERRABLE INITIALLY DEFERRED,
    -- The columns of each state. A rebuild has the PreCommit's data if the PreCommit had landed.
    CHECK (
        (draw IS NOT NULL) + 2 * (ticket IS NOT NULL) + 4 * (comm_r IS NOT NULL)
            + 8 * (comm_d IS NOT NULL) + 16 * (precommit IS NOT NULL) + 32 * (seeds_drawn IS NOT NULL)
            + 64 * (files IS NOT NULL) + 128 * (seed IS NOT NULL) + 256 * (proof_bytes IS NOT NULL)
            + 512 * (activation_epoch IS NOT NULL) + 1024 * (cause IS NOT NULL)
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
INSERT INTO seal_jobs (
    job, state, draw, ticket, comm_r, comm_d, precommit, seeds_drawn, files, seed, proof_bytes, activation_epoch, cause)
SELECT
    jobs.id, old.state, draw, ticket, comm_r, comm_d, precommit, seeds_drawn, files, seed, proof_bytes, activation_epoch, cause
FROM sectors_old AS old JOIN jobs ON jobs.miner = old.miner AND jobs.number = old.number
ORDER BY jobs.id;

DROP TABLE sectors_old;
