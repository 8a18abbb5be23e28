-- The miners' weights as people ordered them. A miner without a row has the weight of the configuration.
CREATE TABLE miner_weights (
    miner  TEXT   PRIMARY KEY,
    weight BIGINT NOT NULL CHECK (weight BETWEEN 0 AND 1000),
    set_at TEXT   NOT NULL,
    set_by TEXT   NOT NULL
);

-- The weights in a worker's orders, as JSON. A miner that is not named has weight 1.
ALTER TABLE worker_orders ADD COLUMN weights TEXT NOT NULL DEFAULT '{}';
