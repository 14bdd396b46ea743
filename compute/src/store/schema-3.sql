-- A job counts its pairs, so that telling of it reads one row however many there are.
ALTER TABLE jobs ADD COLUMN n_pairs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN n_queued INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN n_done INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN n_failed INTEGER NOT NULL DEFAULT 0;
-- Whether its pairs are computed even where there are results, which are replaced.
ALTER TABLE jobs ADD COLUMN again INTEGER NOT NULL DEFAULT 0;

UPDATE jobs SET
    n_pairs = (SELECT count(*) FROM pairs WHERE job = jobs.seq),
    n_queued = (SELECT count(*) FROM pairs WHERE job = jobs.seq AND state = 'queued'),
    n_done = (SELECT count(*) FROM pairs WHERE job = jobs.seq AND state = 'done'),
    n_failed = (SELECT count(*) FROM pairs WHERE job = jobs.seq AND state = 'failed');

CREATE TRIGGER pairs_inserted AFTER INSERT ON pairs BEGIN
    UPDATE jobs SET
        n_pairs = n_pairs + 1,
        n_queued = n_queued + (new.state = 'queued'),
        n_done = n_done + (new.state = 'done'),
        n_failed = n_failed + (new.state = 'failed')
    WHERE seq = new.job;
END;

CREATE TRIGGER pairs_updated AFTER UPDATE OF state ON pairs WHEN old.state <> new.state BEGIN
    UPDATE jobs SET
        n_queued = n_queued + (new.state = 'queued') - (old.state = 'queued'),
        n_done = n_done + (new.state = 'done') - (old.state = 'done'),
        n_failed = n_failed + (new.state = 'failed') - (old.state = 'failed')
    WHERE seq = new.job;
END;

-- The size of the grid: a verification of every cell satisfies any that is asked for. It is only
-- looked at where something was verified.
ALTER TABLE experiments ADD COLUMN n_cells INTEGER NOT NULL DEFAULT 0;

UPDATE experiments SET n_cells = (
    SELECT CASE WHEN json_valid(entry) THEN
        coalesce(json_extract(entry, '$.n_layers') * json_extract(entry, '$.n_columns'), 0)
        ELSE 0 END
    FROM documents WHERE documents.seq = experiments.seq)
WHERE n_verified > 0 AND EXISTS (SELECT 1 FROM documents WHERE documents.seq = experiments.seq);

-- The finished cells of a pair that is not finished, a row for each time that some were stored.
CREATE TABLE partials (
    job      INTEGER NOT NULL,
    idx      INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    -- What was computed; parts made for something else are of no use.
    made_for TEXT NOT NULL,
    -- The cells, as JSON.
    cells    TEXT NOT NULL,
    PRIMARY KEY (job, idx, part),
    FOREIGN KEY (job, idx) REFERENCES pairs (job, idx) ON DELETE CASCADE
);

CREATE TRIGGER pairs_over AFTER UPDATE OF state ON pairs
WHEN new.state NOT IN ('queued', 'running') BEGIN
    DELETE FROM partials WHERE job = new.job AND idx = new.idx;
END;
