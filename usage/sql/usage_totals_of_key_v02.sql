-- At most one row: the totals of one subscription, day and usage type from its raw records.
-- Source: usage_record.
-- Why: the repair of late keys and live numbers must mean the same totals. The server inlines the
-- function into a LATERAL join: a few pages of one primary key and one partition for each key.

CREATE FUNCTION usage_totals_of_key(
    wanted_subscription_id bigint, wanted_day date, wanted_type text
)
RETURNS TABLE (
    total_price numeric,
    total_usage bigint,
    record_count bigint,
    last_usage_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $body$
    SELECT
        sum(record.price) AS total_price,
        sum(record.quantity)::bigint AS total_usage,
        count(*) AS record_count,
        max(record.usage_date) AS last_usage_at
    FROM usage_record AS record
    WHERE
        record.usage_type = wanted_type
        AND record.subscription_id = wanted_subscription_id
        AND record.usage_date >= usage_day_start(wanted_day)
        AND record.usage_date < usage_day_end(wanted_day)
        AND usage_day(record.usage_date) = wanted_day
    HAVING count(*) > 0
$body$;

COMMENT ON FUNCTION usage_totals_of_key(bigint, date, text) IS
'Totals of one subscription, day and usage type from the raw records; no row without records.';
