-- What each permanent store's root says that it is (sealbus-store.json): a directory without it, or with another id, is not
-- the store.
CREATE TABLE stores (
    name    TEXT PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    made_at TEXT NOT NULL,
    made_by TEXT NOT NULL
);

-- What each worker's slots say that they are (sealbus-slot.json), by the worker's heartbeats. Told back with the worker's
-- orders, so that an empty directory in the place of a slot is known for a disk that is away.
CREATE TABLE slots (
    worker  TEXT NOT NULL,
    path    TEXT NOT NULL,
    id      TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (worker, path)
);
