-- One row per write and key of a day before usage_logging_before; append-only, with duplicates.
-- Sources: the statement triggers on the raw tables insert rows, the refresh deletes them.
-- Why: a refresh computes only these keys again. An upsert would deadlock concurrent writers.

CREATE TABLE usage_late_key (
    subscription_id bigint NOT NULL,
    day date NOT NULL,
    usage_type text NOT NULL CHECK (usage_type IN ('data', 'voice'))
);

-- Live queries look up the late keys of one subscription.
CREATE INDEX usage_late_key_key ON usage_late_key (subscription_id, day, usage_type);

COMMENT ON TABLE usage_late_key IS
'Keys whose raw records changed after their day was over; the next refresh repairs them.';
COMMENT ON COLUMN usage_late_key.subscription_id IS
'The subscription (usage_subscription.id).';
COMMENT ON COLUMN usage_late_key.day IS
'The day of usage in the time zone of the deployment.';
COMMENT ON COLUMN usage_late_key.usage_type IS
'data or voice.';
