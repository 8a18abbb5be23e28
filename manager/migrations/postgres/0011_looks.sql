-- When the driver looks at each sector next: 0 at once, otherwise when the head is at that epoch. Whatever changes a sector
-- makes it due at once. A sector that waits for nothing from the chain has no row.
CREATE TABLE looks (
    miner    TEXT   NOT NULL,
    number   BIGINT NOT NULL,
    at_epoch BIGINT NOT NULL,
    PRIMARY KEY (miner, number)
);
CREATE INDEX looks_due ON looks (at_epoch, miner, number);
INSERT INTO looks (miner, number, at_epoch)
    SELECT miner, number, 0 FROM sectors WHERE state NOT IN ('proving', 'aborted');

-- What a signature, a pledge and a look at the queue read should not grow with what there has ever been.
CREATE INDEX messages_by_sender ON messages (sender, nonce);
CREATE INDEX sectors_requeued ON sectors (miner) WHERE state = 'requeued';
