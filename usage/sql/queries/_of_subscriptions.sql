-- Rows of these subscriptions, or all rows for NULL. psycopg2 puts the list into the text, so the
-- planner drops one half of the condition and can use an index for the other.
(%(subscription_ids)s::bigint[] IS NULL OR subscription_id = any(%(subscription_ids)s::bigint[]))
