-- The network that the manager's sectors are on. A node of another one is not used.
CREATE TABLE network (
    "only"  INTEGER PRIMARY KEY CHECK ("only" = 1),
    name    TEXT NOT NULL,
    -- The key of the first tipset. NULL if no node has told it yet.
    genesis TEXT,
    seen_at TEXT NOT NULL
);
