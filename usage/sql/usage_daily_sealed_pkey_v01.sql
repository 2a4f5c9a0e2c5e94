-- The primary key of usage_daily_sealed, with the rest of a total in its entries.
-- Source: usage_daily_sealed.
-- Why: the days of a subscription lie next to each other in the index but on a page of its own each
-- in the table. Whoever asks for a subscription reads the index alone.

-- Refreshes are skipped meanwhile: one that has read the table and waits to write it would be in
-- the way of the exchange below.
LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE;

CREATE UNIQUE INDEX usage_daily_sealed_next
ON usage_daily_sealed (subscription_id, day, usage_type)
INCLUDE (total_price, total_usage, record_count, last_usage_at);

-- Who waits for this lock makes all readers wait behind: after some seconds the migration gives up
-- instead, and can be run again when the long reader has ended.
SET LOCAL lock_timeout = '5s';

ALTER TABLE usage_daily_sealed
DROP CONSTRAINT usage_daily_sealed_pkey,
ADD CONSTRAINT usage_daily_sealed_pkey PRIMARY KEY USING INDEX usage_daily_sealed_next;

COMMENT ON CONSTRAINT usage_daily_sealed_pkey ON usage_daily_sealed IS
'One row per subscription, day and usage type; answers of named subscriptions read nothing else.';
