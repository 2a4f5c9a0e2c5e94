-- The rows of usage_daily_open that a transaction wrote or removed.
-- Source: usage_daily_open, as the calling statement sees it.
-- Why: a STABLE function sees the snapshot with which its statement began. Called after
-- usage_refresh_daily_open() in the same statement, it returns the rows that the refresh replaced
-- or removed. Called in the next statement, it returns the rows that replaced them. An old row with
-- the same xid, from four billion transactions ago, is in both results, so it cancels out.

CREATE FUNCTION usage_daily_open_touched_by(transaction_id xid8)
RETURNS TABLE (
    subscription_id bigint,
    day date,
    usage_type text,
    total_price numeric,
    total_usage bigint,
    record_count bigint
)
-- PL/pgSQL: PostgreSQL would inline a SQL function and open the view before the refresh.
LANGUAGE plpgsql STABLE
AS $body$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        total_usage,
        record_count
    FROM usage_daily_open
    WHERE xmin = transaction_id::xid OR xmax = transaction_id::xid;
END
$body$;

COMMENT ON FUNCTION usage_daily_open_touched_by(xid8) IS
'Rows of usage_daily_open that a transaction wrote or removed, in the calling statement''s view.';
