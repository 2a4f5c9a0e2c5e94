-- Always empty. The session with a SHARE UPDATE EXCLUSIVE lock on it may refresh the totals.
-- A table lock needs no snapshot and ends with its transaction, also after a crash.
-- Autovacuum never locks this table, since the table never changes.

CREATE TABLE usage_refresh_lock (
    empty boolean NOT NULL CHECK (FALSE)
);

COMMENT ON TABLE usage_refresh_lock IS
'Always empty. A refresh, partition maintenance and pause_refresh lock it.';
COMMENT ON COLUMN usage_refresh_lock.empty IS
'No row can be stored.';
