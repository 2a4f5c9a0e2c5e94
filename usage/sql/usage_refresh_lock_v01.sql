-- No rows, ever: the one who holds SHARE UPDATE EXCLUSIVE on this table may refresh the totals.
-- A table lock is taken without a snapshot and ends with its transaction, even after a crash.
-- Autovacuum never asks for it, since the table never changes.

CREATE TABLE usage_refresh_lock (
    empty boolean NOT NULL CHECK (FALSE)
);

COMMENT ON TABLE usage_refresh_lock IS
'Empty. Locked by the one refresher, by partition maintenance and by pause_refresh.';
COMMENT ON COLUMN usage_refresh_lock.empty IS
'No row can be stored.';
