-- Discard the notes, before the months are added up again.
DELETE FROM usage_total_change
