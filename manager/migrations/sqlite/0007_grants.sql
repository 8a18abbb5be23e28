-- Sectors: the owner's token, which is another one than the last lease record after a claim that did not count or the
-- manager's word; and the stream in which it was granted, where that was lost.
ALTER TABLE sectors ADD COLUMN token BIGINT;
ALTER TABLE sectors ADD COLUMN token_stream TEXT;
UPDATE sectors SET token = last_lease, version = version + 1 WHERE owner IS NOT NULL;

-- The last lease record of each sector that somebody claimed before there was such a sector: it moves the server's fence.
CREATE TABLE unknown_leases (
    miner    TEXT   NOT NULL,
    number   BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (miner, number)
);

-- The number by which an order to free a slot is known to its worker, if another one than its own.
ALTER TABLE slot_releases ADD COLUMN order_number BIGINT;

-- The outbox also says whose a sector still is. SQLite cannot change a CHECK, so the table is made anew.
CREATE TABLE outbox_new (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    kind           TEXT   NOT NULL CHECK (kind IN ('intent', 'fact', 'release', 'reinstate', 'purge')),
    miner          TEXT   NOT NULL,
    number         BIGINT NOT NULL,
    -- Whom a fact is for.
    worker         TEXT,
    -- What a release or a fact is about: the lease's token, or the last lease record of a sector that nobody has. What the
    -- record that reinstates an owner must expect.
    lease_sequence BIGINT NOT NULL,
    payload        BLOB   NOT NULL,
    CHECK ((worker IS NOT NULL) = (kind = 'fact'))
);
INSERT INTO outbox_new (id, kind, miner, number, worker, lease_sequence, payload)
SELECT id, kind, miner, number, worker, lease_sequence, payload FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_new RENAME TO outbox;
