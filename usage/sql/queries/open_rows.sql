-- The rows of the view of the open days: their number, how many this transaction wrote, and their
-- fingerprint.
SELECT
    count(*),
    count(*) FILTER (WHERE xmin = pg_current_xact_id()::xid),
    %(_fingerprint)s
FROM usage_daily_open
