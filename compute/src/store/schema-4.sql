-- What is finished of a pair is kept until its experiment is there, whichever job computes it: a job that
-- failed or was cancelled costs the next one only what was missing.
DROP TRIGGER pairs_over;

CREATE INDEX partials_made_for ON partials (made_for);

-- Parts begin with the id of the experiment that they were made for, and a space.
CREATE TRIGGER pairs_done AFTER UPDATE OF state ON pairs WHEN new.state = 'done' BEGIN
    DELETE FROM partials WHERE job = new.job AND idx = new.idx;
    DELETE FROM partials
    WHERE made_for >= new.experiment || ' ' AND made_for < new.experiment || '!';
END;
