-- The mark of a database that was restored from a backup, until it has caught up with the log and the chain.
CREATE TABLE restored (
    "only"      INTEGER PRIMARY KEY CHECK ("only" = 1),
    -- When the backup was made, if that is known.
    backup_at   TEXT,
    restored_at TEXT    NOT NULL,
    -- The last record of the log that may hold decisions of before the loss. NULL if the manager has not looked yet.
    log_until   BIGINT,
    log_is_read BIGINT  NOT NULL CHECK (log_is_read IN (0, 1)),
    CHECK (log_is_read = 0 OR log_until IS NOT NULL)
);

-- An errand that may have been sent before a restoration is not signed anew.
ALTER TABLE errands ADD COLUMN signed_once BIGINT NOT NULL DEFAULT 0 CHECK (signed_once IN (0, 1));
