-- One row per turn: the imports of one source update the same row, each in its own transaction.
-- Written by import_usage, which finds the row by a hash of the source.
-- Why: only records of one source can be the same, and two imports that wait for each other
-- crosswise would end in a deadlock. Only who may write usage can hold a turn.

CREATE TABLE usage_import_turn (
    slot smallint NOT NULL,
    taken_at timestamptz,
    CONSTRAINT usage_import_turn_pkey PRIMARY KEY (slot)
);

INSERT INTO usage_import_turn (slot) SELECT slot FROM generate_series(0, 1023) AS slots (slot);

COMMENT ON TABLE usage_import_turn IS
'One row per turn that imports of one source take; the number of rows is fixed.';
COMMENT ON COLUMN usage_import_turn.slot IS
'Which turn: a hash of the name of the source.';
COMMENT ON COLUMN usage_import_turn.taken_at IS
'When a batch last took it; NULL if none ever did.';
