-- A day, as a number of days since 1999-12-31: triggers log the late keys of days before it.
-- A sequence has no snapshot, so a trigger in an old snapshot still reads the current value.
-- A refresh moves it forward, only reopen_days moves it back; 0 logs nothing.

CREATE SEQUENCE usage_logging_before MINVALUE 0 START WITH 0;

COMMENT ON SEQUENCE usage_logging_before IS
'Days since 1999-12-31. Triggers log writes to days before that day in usage_late_key.';
