-- One row: the session that rebuilds indexes of the period totals, if there is one.
-- The worker writes it. The row of a session that has ended counts as free, so nothing cleans up.
-- Why: an index is rebuilt outside of a transaction, so no lock of a transaction could protect it.

CREATE TABLE usage_index_care (
    id smallint NOT NULL DEFAULT 1,
    pid integer,
    backend_start timestamptz,
    CONSTRAINT usage_index_care_pkey PRIMARY KEY (id),
    CONSTRAINT usage_index_care_has_one_row CHECK (id = 1)
);

INSERT INTO usage_index_care DEFAULT VALUES;

COMMENT ON TABLE usage_index_care IS
'One row: the session that rebuilds indexes of usage_period_total.';
COMMENT ON COLUMN usage_index_care.id IS
'Always 1.';
COMMENT ON COLUMN usage_index_care.pid IS
'Process id of the session; NULL if none rebuilds.';
COMMENT ON COLUMN usage_index_care.backend_start IS
'Start of the session, since PostgreSQL reuses process ids.';
