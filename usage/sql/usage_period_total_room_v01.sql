-- Room in the pages of usage_period_total and its indexes for the totals that each refresh changes.
-- Source: usage_period_total.
-- Why: a changed price takes its entry to another place, and the server never joins pages that are
-- half empty. So an index by price ends two fifths full however it was built; built full, each of
-- its pages is split first. A build is VACUUM FULL, REINDEX or a restore, and the next one counts.

ALTER TABLE usage_period_total SET (fillfactor = 70);
ALTER INDEX usage_period_total_pkey SET (fillfactor = 70);
ALTER INDEX usage_period_total_price SET (fillfactor = 40);
ALTER INDEX usage_period_total_largest SET (fillfactor = 40);
