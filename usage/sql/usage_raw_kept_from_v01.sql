-- A day, as a number of days since 1999-12-31: days before it are closed to writers.
-- A sequence has no snapshot, so a trigger in an old snapshot still reads the current value.
-- Retention moves it forward, only reopen_days moves it back; 0 closes nothing.

CREATE SEQUENCE usage_raw_kept_from MINVALUE 0 START WITH 0;

COMMENT ON SEQUENCE usage_raw_kept_from IS
'Days since 1999-12-31. Triggers refuse writes to days before that day, which are closed.';
