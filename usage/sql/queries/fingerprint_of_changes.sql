-- The fingerprint of the noted changes. It must equal that of the rows that were written.
SELECT %(_fingerprint)s FROM usage_total_change
