-- One row: the session that builds indexes of the period totals anew, if one does.
-- Written by the worker. A session that has ended holds nothing: nobody has to clean up behind it.
-- Why: an index is built outside of a transaction, so a lock of a transaction can't last as long.

CREATE TABLE usage_index_care (
    id smallint NOT NULL DEFAULT 1,
    pid integer,
    backend_start timestamptz,
    CONSTRAINT usage_index_care_pkey PRIMARY KEY (id),
    CONSTRAINT usage_index_care_has_one_row CHECK (id = 1)
);

INSERT INTO usage_index_care DEFAULT VALUES;

COMMENT ON TABLE usage_index_care IS
'One row: the session that builds indexes of usage_period_total anew.';
COMMENT ON COLUMN usage_index_care.id IS
'Always 1.';
COMMENT ON COLUMN usage_index_care.pid IS
'Its process; NULL if nobody builds.';
COMMENT ON COLUMN usage_index_care.backend_start IS
'When its session began, since numbers of processes come again.';
