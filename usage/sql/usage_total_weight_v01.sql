-- One weight per subscription, day and usage type: 31 bits of a hash of the key.
-- Source: the key alone.
-- Why: the fingerprint is the sum of totals times their weights. It differs when a total or a key
-- differs, and adds up like totals do, so it shows whether the noted changes are complete.

CREATE FUNCTION usage_total_weight(subscription_id bigint, day date, usage_type text)
RETURNS bigint
-- PostgreSQL inlines a SQL function. A call for each row would take longer than the sums.
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $body$
    SELECT
        hashtextextended(usage_type, subscription_id # ((day - date '2000-01-01')::bigint << 40))
        & 2147483647
$body$;

COMMENT ON FUNCTION usage_total_weight(bigint, date, text) IS
'The weight of a daily total in the fingerprint, which shows whether all changes were noted.';
