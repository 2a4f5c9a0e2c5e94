-- Days before this one are closed to writers: the number of days since 1999-12-31.
-- A sequence, because a trigger in an old snapshot must read the value of now, not of then.
-- Moved forward by retention, never back; 0 closes nothing.

CREATE SEQUENCE usage_raw_kept_from MINVALUE 0 START WITH 0;

COMMENT ON SEQUENCE usage_raw_kept_from IS
'Writes to days before 1999-12-31 plus this many days are refused: their records are dropped.';
