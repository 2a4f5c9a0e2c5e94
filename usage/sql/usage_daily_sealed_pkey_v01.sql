-- The primary key of usage_daily_sealed, as a covering index: it includes all columns of a total.
-- Source: usage_daily_sealed.
-- Why: the days of a subscription are adjacent in the index, but each is on another page of the
-- table. A query of one subscription reads the index alone.

-- Under this lock refreshes are skipped: a refresh that has read the table and waits to write it
-- would block the exchange below.
LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE;

CREATE UNIQUE INDEX usage_daily_sealed_next
ON usage_daily_sealed (subscription_id, day, usage_type)
INCLUDE (total_price, total_usage, record_count, last_usage_at);

-- Readers queue behind a session that waits for the exclusive lock. So the migration gives up after
-- some seconds; run it again when the long reader has ended.
SET LOCAL lock_timeout = '5s';

ALTER TABLE usage_daily_sealed
DROP CONSTRAINT usage_daily_sealed_pkey,
ADD CONSTRAINT usage_daily_sealed_pkey PRIMARY KEY USING INDEX usage_daily_sealed_next;

COMMENT ON CONSTRAINT usage_daily_sealed_pkey ON usage_daily_sealed IS
'One row per subscription, day and usage type; queries of named subscriptions read it alone.';
