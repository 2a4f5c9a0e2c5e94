-- Refreshes usage_daily_open concurrently and returns the id of the current transaction.
-- Source: the definition of the view.
-- Why: a function can be part of a statement whose other parts see the view before the refresh.

CREATE FUNCTION usage_refresh_daily_open() RETURNS xid8
LANGUAGE plpgsql VOLATILE
AS $body$
BEGIN
    REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open;
    RETURN pg_current_xact_id();
END
$body$;

COMMENT ON FUNCTION usage_refresh_daily_open() IS
'Refreshes usage_daily_open; returns the transaction id for usage_daily_open_touched_by().';
