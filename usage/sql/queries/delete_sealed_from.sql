-- Delete the sealed totals of days that become open again. No notes: the caller adds up the months
-- again.
DELETE FROM usage_daily_sealed
WHERE day >= %(first_day)s
