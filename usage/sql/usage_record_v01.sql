-- One row per raw record of any usage type.
-- Sources: the raw table of each usage type.
-- Why: what treats all usage types alike is written once. Name the usage type where you know it:
-- the server then reads that table alone.

CREATE OR REPLACE VIEW usage_record AS
-- For each usage type, with UNION ALL between:
SELECT
    record.subscription_id,
    'data'::text AS usage_type,
    record.usage_date,
    record.price,
    record.kilobytes_used AS quantity,
    record.id
FROM usage_datausagerecord AS record;

COMMENT ON VIEW usage_record IS
'Raw records of every usage type. Analysts may be granted it; their queries need bounds on days.';
COMMENT ON COLUMN usage_record.subscription_id IS
'The subscription that used it (usage_subscription.id).';
COMMENT ON COLUMN usage_record.usage_type IS
'The usage type (usage_type.usage_type).';
COMMENT ON COLUMN usage_record.usage_date IS
'When the usage took place.';
COMMENT ON COLUMN usage_record.price IS
'Rated price in the currency of the deployment; negative for a credit.';
COMMENT ON COLUMN usage_record.quantity IS
'Quantity used, in the unit of the usage type.';
COMMENT ON COLUMN usage_record.id IS
'Identifies the record within its subscription and moment.';

-- Live totals read it with the privileges of the web server, whose processes of the release before
-- are running: the grants that follow the migrations would be too late.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_web') THEN
        GRANT SELECT ON usage_record TO usage_web;
    END IF;
END
$do$;
