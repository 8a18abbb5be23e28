-- The toy workflow, which exists only in tests: the data of its jobs' states.
CREATE TABLE toy_jobs (
    job      BIGINT  PRIMARY KEY,
    state    TEXT    NOT NULL,
    ticket   TEXT,
    bytes    BIGINT,
    cause    TEXT,
    for_good BIGINT,

    FOREIGN KEY (job, state) REFERENCES jobs (id, state) DEFERRABLE INITIALLY DEFERRED,
    CHECK ((ticket IS NOT NULL) = (state IN ('toy_measuring', 'toy_cleaning', 'toy_done'))),
    CHECK ((bytes IS NOT NULL) = (state IN ('toy_cleaning', 'toy_done'))),
    CHECK ((cause IS NOT NULL) = (state IN ('toy_leaving', 'toy_given_up'))),
    CHECK ((for_good IS NOT NULL) = (state = 'toy_leaving'))
);
