-- The rows of usage_daily_open that a transaction wrote or removed.
-- Source: usage_daily_open, as the calling statement sees it.
-- Why: called behind usage_refresh_daily_open() in one statement, it yields the rows that were
-- replaced or have vanished, since a STABLE function sees what its statement saw when it began;
-- called in the next statement, the rows that took their place. A row that has the number of the
-- transaction from four billion transactions ago is in both answers and cancels out.

CREATE FUNCTION usage_daily_open_touched_by(transaction_id xid8)
RETURNS TABLE (
    subscription_id bigint,
    day date,
    usage_type text,
    total_price numeric,
    total_usage bigint,
    record_count bigint
)
-- PL/pgSQL, because the server would put a function in SQL in the place of its call and open the
-- view before the refresh.
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
'The rows of usage_daily_open that a transaction wrote or removed, as the calling statement sees.';
