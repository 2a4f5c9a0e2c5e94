-- One row per turn: imports of the same source update the same row, one transaction after another.
-- import_usage writes it, and finds the row by a hash of the source.
-- Why: two imports of the same source can have the same records, and would deadlock if each waited
-- for the other. Only a role that may write usage can hold a turn.

CREATE TABLE usage_import_turn (
    slot smallint NOT NULL,
    taken_at timestamptz,
    CONSTRAINT usage_import_turn_pkey PRIMARY KEY (slot)
);

INSERT INTO usage_import_turn (slot) SELECT slot FROM generate_series(0, 1023) AS slots (slot);

COMMENT ON TABLE usage_import_turn IS
'One row per turn that imports of one source take; the number of rows is fixed.';
COMMENT ON COLUMN usage_import_turn.slot IS
'Number of the turn: a hash of the name of the source.';
COMMENT ON COLUMN usage_import_turn.taken_at IS
'When a batch last took it; NULL if none ever did.';
