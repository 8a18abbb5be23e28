-- The compressed history of sectors whose job has ended: one row each time that lines were archived. `last_id` was the
-- `history.id` of the last of them, so rows and lines sort together.
CREATE TABLE archived_history (
    miner   TEXT   NOT NULL,
    number  BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    lines   BLOB   NOT NULL,
    PRIMARY KEY (miner, number, last_id)
);

-- The sectors whose job has ended and whose history is not archived yet. `ended_secs` are seconds since 1970 by the
-- database's clock.
CREATE TABLE to_archive (
    miner      TEXT   NOT NULL,
    number     BIGINT NOT NULL,
    ended_secs BIGINT NOT NULL,
    PRIMARY KEY (miner, number)
) WITHOUT ROWID;
CREATE INDEX to_archive_by_end ON to_archive (ended_secs);
INSERT INTO to_archive (miner, number, ended_secs)
    SELECT miner, number, CAST(strftime('%s', 'now') AS BIGINT)
    FROM jobs WHERE is_last = 1 AND ended = 1;

-- Every worker that ever reported under a lease. A name stays when the report is archived.
CREATE TABLE workers (
    name TEXT NOT NULL PRIMARY KEY
);
INSERT INTO workers (name) SELECT DISTINCT actor FROM history WHERE token IS NOT NULL;

-- For lists of the sectors in one state, and of blocked ones.
CREATE INDEX jobs_by_state ON jobs (state, miner, number) WHERE is_last = 1;
CREATE INDEX jobs_blocked ON jobs (miner, number) WHERE blocked IS NOT NULL;
