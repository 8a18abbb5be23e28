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

-- The outbox also says whose a sector still is.
ALTER TABLE outbox DROP CONSTRAINT outbox_new_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check
    CHECK (kind IN ('intent', 'fact', 'release', 'reinstate', 'purge'));
