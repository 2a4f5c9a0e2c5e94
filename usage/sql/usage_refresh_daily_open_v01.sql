-- Refreshes usage_daily_open concurrently and returns the id of the transaction that it is part of.
-- Source: the definition of the view.
-- Why: as a function it can be part of a statement whose other parts see the view as it was before.

CREATE FUNCTION usage_refresh_daily_open() RETURNS xid8
LANGUAGE plpgsql VOLATILE
AS $body$
BEGIN
    REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open;
    RETURN pg_current_xact_id();
END
$body$;

COMMENT ON FUNCTION usage_refresh_daily_open() IS
'Refreshes usage_daily_open; returns the transaction, for usage_daily_open_touched_by().';
