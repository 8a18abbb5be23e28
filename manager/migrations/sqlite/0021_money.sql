-- The money book. Amounts are in attoFIL, which do not fit into a BIGINT, so they are text and are added up by the manager.

-- The tipsets whose execution changed anything. A reorganisation is noticed by their keys.
CREATE TABLE money_tipsets (
    epoch  BIGINT NOT NULL PRIMARY KEY,
    tipset TEXT   NOT NULL,
    -- The day of its timestamp, in UTC.
    day    TEXT   NOT NULL
);

-- The entries. Those of an actor and a quantity add up to what the actor has at the book's end.
CREATE TABLE money (
    id       INTEGER PRIMARY KEY,
    epoch    BIGINT  NOT NULL REFERENCES money_tipsets (epoch),
    -- Its id address, such as f01000.
    actor    TEXT    NOT NULL,
    -- Deposits, pledge and vesting are parts of a miner's balance.
    quantity TEXT    NOT NULL CHECK (quantity IN ('balance', 'deposits', 'pledge', 'vesting')),
    purpose  TEXT    NOT NULL CHECK (purpose IN ('opening', 'gas', 'moved', 'transfer', 'burnt', 'deposit', 'deposit_burnt',
        'pledge', 'vesting', 'fee', 'penalty', 'reward', 'other')),
    amount   TEXT    NOT NULL,
    -- What it was about, if that is known.
    miner    TEXT,
    sector   BIGINT,
    message  TEXT,
    method   BIGINT,
    note     TEXT,
    CHECK ((message IS NOT NULL) = (method IS NOT NULL)),
    CHECK (sector IS NULL OR miner IS NOT NULL)
);
CREATE INDEX money_openings ON money (actor) WHERE purpose = 'opening';
-- The orders in which a long book is read in pages.
CREATE INDEX money_by_message ON money (epoch, COALESCE(message, ''), id);
CREATE INDEX money_by_sector ON money (COALESCE(miner, ''), COALESCE(sector, -1), id);

-- What each actor has at the book's end: the sums of its entries.
CREATE TABLE money_actors (
    actor    TEXT NOT NULL PRIMARY KEY,
    balance  TEXT NOT NULL,
    deposits TEXT NOT NULL,
    pledge   TEXT NOT NULL,
    vesting  TEXT NOT NULL
);

-- The book's end: the tipset before whose execution the actors have what is booked.
CREATE TABLE money_end (
    "only"  BIGINT NOT NULL PRIMARY KEY CHECK ("only" = 1),
    epoch   BIGINT NOT NULL,
    tipset  TEXT   NOT NULL,
    -- Why the book does not go on, if something is wrong.
    problem TEXT
);
