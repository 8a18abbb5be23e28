-- Which log this database is a fold of, how far it is folded, and by whom.
CREATE TABLE fold (
    "only"        INTEGER PRIMARY KEY CHECK ("only" = 1),
    stream        TEXT    NOT NULL,
    last_sequence BIGINT  NOT NULL,
    -- Rises each time a manager takes over; whoever has an older one may not write.
    epoch         BIGINT  NOT NULL
);

-- Sectors that a person asked for and that have no number yet.
CREATE TABLE pledges (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    miner      TEXT   NOT NULL,
    remaining  BIGINT NOT NULL CHECK (remaining >= 0),
    asked_at   TEXT   NOT NULL,
    asked_by   TEXT   NOT NULL
);

-- One row a sector. `state` is the variant; each other column belongs to exactly the variants that its CHECK lists.
CREATE TABLE sectors (
    miner            TEXT    NOT NULL,
    number           BIGINT  NOT NULL,
    proof            TEXT    NOT NULL,
    attempt          BIGINT  NOT NULL CHECK (attempt >= 1),
    created_at       TEXT    NOT NULL,
    changed_at       TEXT    NOT NULL,

    -- Ownership, folded from lease records.
    owner            TEXT,
    last_lease       BIGINT  NOT NULL,
    last_event       BIGINT  NOT NULL,

    state            TEXT    NOT NULL CHECK (state IN (
        'queued', 'packing', 'drawing_ticket', 'sealing', 'pre_committing', 'persisting', 'checking_files',
        'awaiting_seed', 'committing', 'verifying_proof', 'prove_committing', 'cleaning', 'proving',
        'aborting', 'aborted')),
    draw             BIGINT,
    ticket           TEXT,
    comm_r           TEXT,
    comm_d           TEXT,
    precommit        TEXT,
    files            TEXT,
    seed             TEXT,
    proof_bytes      BYTEA,
    activation_epoch BIGINT,
    cause            TEXT,
    -- Why a person must look; independent of the state that the sector stands at.
    blocked          TEXT,

    PRIMARY KEY (miner, number),
    CHECK ((draw IS NOT NULL) = (state IN ('drawing_ticket', 'awaiting_seed'))),
    CHECK ((ticket IS NOT NULL) = (state IN (
        'sealing', 'pre_committing', 'persisting', 'checking_files', 'awaiting_seed', 'committing', 'verifying_proof',
        'prove_committing', 'cleaning', 'proving'))),
    CHECK ((comm_r IS NOT NULL) = (state IN (
        'pre_committing', 'persisting', 'checking_files', 'awaiting_seed', 'committing', 'verifying_proof',
        'prove_committing', 'cleaning', 'proving'))),
    CHECK ((comm_d IS NOT NULL) = (comm_r IS NOT NULL)),
    CHECK ((precommit IS NOT NULL) = (state IN (
        'persisting', 'checking_files', 'awaiting_seed', 'committing', 'verifying_proof', 'prove_committing',
        'cleaning', 'proving'))),
    CHECK ((files IS NOT NULL) = (state IN (
        'checking_files', 'awaiting_seed', 'committing', 'verifying_proof', 'prove_committing', 'cleaning',
        'proving'))),
    CHECK ((seed IS NOT NULL) = (state IN (
        'committing', 'verifying_proof', 'prove_committing', 'cleaning', 'proving'))),
    CHECK ((proof_bytes IS NOT NULL) = (state IN ('verifying_proof', 'prove_committing', 'cleaning', 'proving'))),
    CHECK ((activation_epoch IS NOT NULL) = (state IN ('cleaning', 'proving'))),
    CHECK ((cause IS NOT NULL) = (state IN ('aborting', 'aborted')))
);
CREATE INDEX sectors_by_state ON sectors (state);

-- What happened, in order. `sequence` is the log's for what workers reported, and null for what the manager did.
CREATE TABLE history (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    miner    TEXT   NOT NULL,
    number   BIGINT NOT NULL,
    at       TEXT   NOT NULL,
    sequence BIGINT,
    actor    TEXT   NOT NULL,
    token    BIGINT,
    kind     TEXT   NOT NULL,
    detail   TEXT   NOT NULL,
    verdict  TEXT   NOT NULL CHECK (verdict IN ('applied', 'noted', 'illegal', 'fenced'))
);
CREATE INDEX history_by_sector ON history (miner, number, id);

-- What must still be published on the bus. A row goes when the server has acknowledged it.
CREATE TABLE outbox (
    id             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind           TEXT   NOT NULL CHECK (kind IN ('intent', 'fact', 'release')),
    miner          TEXT   NOT NULL,
    number         BIGINT NOT NULL,
    -- Whom a fact is for.
    worker         TEXT,
    -- The sector's last lease record when the row was written.
    lease_sequence BIGINT NOT NULL,
    payload        BYTEA  NOT NULL,
    CHECK ((worker IS NOT NULL) = (kind = 'fact'))
);

-- Messages to the chain. The key makes a second message for one purpose impossible; the bytes, once signed, never change.
CREATE TABLE messages (
    key          TEXT   PRIMARY KEY,
    kind         TEXT   NOT NULL CHECK (kind IN ('precommit', 'prove_commit')),
    miner        TEXT   NOT NULL,
    number       BIGINT NOT NULL,
    state        TEXT   NOT NULL CHECK (state IN ('wanted', 'signed', 'pushed', 'landed', 'failed')),
    sender       TEXT,
    nonce        BIGINT,
    cid          TEXT,
    signed       BYTEA,
    pushed_epoch BIGINT,
    landed_epoch BIGINT,
    exit_code    BIGINT,
    error        TEXT,
    CHECK ((signed IS NOT NULL) = (nonce IS NOT NULL)),
    CHECK ((signed IS NOT NULL) = (cid IS NOT NULL)),
    CHECK ((signed IS NOT NULL) = (sender IS NOT NULL)),
    CHECK (state NOT IN ('signed', 'pushed', 'landed') OR signed IS NOT NULL),
    CHECK (state <> 'wanted' OR signed IS NULL),
    CHECK ((pushed_epoch IS NOT NULL) OR state IN ('wanted', 'signed', 'failed')),
    CHECK ((landed_epoch IS NOT NULL) OR state <> 'landed'),
    CHECK ((error IS NOT NULL) = (state = 'failed'))
);
CREATE UNIQUE INDEX messages_by_nonce ON messages (sender, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX messages_open ON messages (state) WHERE state IN ('wanted', 'signed', 'pushed');
