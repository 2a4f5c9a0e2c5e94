-- Empty the period totals, before all of them are filled again.
DELETE FROM usage_period_total
