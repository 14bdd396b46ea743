-- What is searched and sorted stands apart from what is only shown, so that a search reads little.
CREATE TABLE experiments (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    entity      TEXT NOT NULL,
    model       TEXT NOT NULL,
    site        TEXT NOT NULL,
    finished_at TEXT NOT NULL,
    -- The distance of the baselines, -1 where unknown.
    contrast    REAL NOT NULL,
    -- Whether the whole vocabulary was read, and how many cells were verified.
    has_readout INTEGER NOT NULL,
    n_verified  INTEGER NOT NULL,
    -- When it was deleted, in seconds since 1970; null while it is there.
    deleted_at  INTEGER,
    -- Everything that a word may be found in, in lower case.
    search      TEXT NOT NULL
);

CREATE TABLE documents (
    seq   INTEGER PRIMARY KEY REFERENCES experiments (seq) ON DELETE CASCADE,
    -- A hash of the body.
    etag  TEXT NOT NULL,
    -- What the list shows of it, as JSON.
    entry TEXT NOT NULL,
    -- The document, as JSON.
    body  BLOB NOT NULL
);

CREATE INDEX experiments_newest ON experiments (finished_at DESC, seq DESC) WHERE deleted_at IS NULL;
CREATE INDEX experiments_entity ON experiments (lower(entity), seq DESC) WHERE deleted_at IS NULL;
CREATE INDEX experiments_model ON experiments (lower(model), seq DESC) WHERE deleted_at IS NULL;
CREATE INDEX experiments_contrast ON experiments (contrast DESC, seq DESC) WHERE deleted_at IS NULL;
CREATE INDEX experiments_one_entity ON experiments (entity) WHERE deleted_at IS NULL;
CREATE INDEX experiments_facets ON experiments (model, entity, site) WHERE deleted_at IS NULL;

CREATE TABLE jobs (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    -- Who submitted it, for taking turns.
    client       TEXT NOT NULL,
    name         TEXT NOT NULL,
    model        TEXT NOT NULL,
    settings     TEXT NOT NULL,
    state        TEXT NOT NULL,
    submitted_at TEXT NOT NULL,
    started_at   TEXT,
    finished_at  TEXT
);

CREATE INDEX jobs_active ON jobs (seq) WHERE state IN ('queued', 'running');

CREATE TABLE pairs (
    job        INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    idx        INTEGER NOT NULL,
    -- The row of the table, as JSON.
    pair       TEXT NOT NULL,
    -- The id that the result has, or will have.
    experiment TEXT NOT NULL,
    state      TEXT NOT NULL,
    error      TEXT,
    -- How often it was begun.
    n_begun    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, idx)
) WITHOUT ROWID;

CREATE INDEX pairs_state ON pairs (job, state);
