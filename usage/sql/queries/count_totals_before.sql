-- The number of sealed totals that delete_totals_before would delete.
SELECT count(*) FROM usage_daily_sealed
WHERE day < %(end_day)s
