-- The number of totals, how many of them a repair would remove, and whether any raw record exists.
WITH %(_differing)s

SELECT
    (SELECT count(*) FROM found),
    (
        SELECT count(*) FROM differing
        WHERE expected_count IS NULL
    ),
    exists(SELECT FROM expected)
