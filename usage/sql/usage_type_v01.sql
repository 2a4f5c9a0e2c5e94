-- One row per usage type: its unit, and where its raw records lie.
-- Written by migrations (the operation AddUsageType), read by functions and by analysts.
-- Why: a database lists its usage types once, so whatever treats all of them alike can loop.

CREATE TABLE usage_type (
    usage_type text NOT NULL CHECK (usage_type ~ '^[a-z][a-z0-9_]{0,29}$'),
    label text NOT NULL,
    unit text NOT NULL,
    raw_table text NOT NULL,
    quantity_column text NOT NULL,
    CONSTRAINT usage_type_pkey PRIMARY KEY (usage_type),
    CONSTRAINT usage_type_label_key UNIQUE (label),
    CONSTRAINT usage_type_raw_table_key UNIQUE (raw_table)
);

COMMENT ON TABLE usage_type IS
'The usage types of this database.';
COMMENT ON COLUMN usage_type.usage_type IS
'The code that totals and the API hold, such as data.';
COMMENT ON COLUMN usage_type.label IS
'The name that people read, such as Data.';
COMMENT ON COLUMN usage_type.unit IS
'The unit of a quantity and of total_usage, such as kilobytes.';
COMMENT ON COLUMN usage_type.raw_table IS
'The table with the raw records of the type.';
COMMENT ON COLUMN usage_type.quantity_column IS
'The column of that table that total_usage adds up.';

DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        GRANT SELECT ON usage_type TO usage_analyst;
    END IF;
    -- Readiness reads it before the grants that follow the migrations.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_web') THEN
        GRANT SELECT ON usage_type TO usage_web;
    END IF;
END
$do$;
