-- Whether an experiment is in the queue is asked whenever a page opens on one.
CREATE INDEX pairs_experiment ON pairs (experiment, job);
