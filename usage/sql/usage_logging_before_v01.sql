-- Days before this one are logged by the triggers: the number of days since 1999-12-31.
-- A sequence, because a trigger in an old snapshot must read the value of now, not of then.
-- Moved forward by the refresh, never back; 0 logs nothing.

CREATE SEQUENCE usage_logging_before MINVALUE 0 START WITH 0;

COMMENT ON SEQUENCE usage_logging_before IS
'Writes to days before 1999-12-31 plus this many days are logged in usage_late_key.';
