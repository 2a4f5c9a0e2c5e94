-- One weight per subscription, day and usage type: 31 bits of a hash of the key.
-- Source: the key alone.
-- Why: sums of totals times their weights differ when a total, or its key, does. Such sums add up
-- like the totals themselves, so they show whether noted changes are the real ones.

CREATE FUNCTION usage_total_weight(subscription_id bigint, day date, usage_type text)
RETURNS bigint
-- The server inlines the function: a call for each row would take longer than the sums.
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $body$
    SELECT
        hashtextextended(usage_type, subscription_id # ((day - date '2000-01-01')::bigint << 40))
        & 2147483647
$body$;

COMMENT ON FUNCTION usage_total_weight(bigint, date, text) IS
'The weight of a daily total in the sums that show whether changes were noted.';
