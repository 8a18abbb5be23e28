-- How often each invariant was seen broken. Times are those of the manager that saw it.
CREATE TABLE broken_invariants (
    invariant TEXT   NOT NULL PRIMARY KEY,
    times     BIGINT NOT NULL CHECK (times >= 1),
    first_at  TEXT   NOT NULL,
    last_at   TEXT   NOT NULL,
    -- What was seen last.
    seen      TEXT   NOT NULL
);
