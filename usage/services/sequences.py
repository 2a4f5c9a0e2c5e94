"""The two day numbers that triggers read, and whether they have reached the state.

A sequence knows no snapshot, so a trigger reads the value of now. A restore or logical replication
may bring the state without them: days that are sealed would then change unnoticed, and days whose
raw records are dropped would take records again.
"""

from datetime import date, timedelta

from django.db import connection

# The local day of the earliest record may be the last of 1999; no record is before it.
DAY_ZERO = date(1999, 12, 31)

# In a window a check of the raw tables refuses records of closed days, and has the day in its name.
CHECK = "usage_raw_kept_from_check"

# What the two sequences, and that check, must have reached, by the row of state. In a window a day
# is closed when it is sealed.
BEHIND = """
    SELECT needed.name, needed.day
    FROM usage_state
    CROSS JOIN LATERAL (
        SELECT
            'usage_logging_before' AS name,
            greatest(usage_state.sealed_before, usage_state.fence_day) AS day,
            (SELECT last_value FROM usage_logging_before) AS reached
        UNION ALL
        SELECT
            'usage_raw_kept_from' AS name,
            greatest(
                usage_state.raw_kept_from,
                CASE WHEN usage_state.late_keys = 'window' THEN usage_state.fence_day END
            ) AS day,
            (SELECT last_value FROM usage_raw_kept_from) AS reached
        UNION ALL
        SELECT
            'usage_raw_kept_from_check' AS name,
            CASE
                WHEN usage_state.late_keys = 'window'
                    THEN greatest(usage_state.raw_kept_from, usage_state.fence_day)
            END AS day,
            (
                SELECT min(coalesce(closed.day - date '1999-12-31', 0))
                FROM usage_type
                LEFT JOIN LATERAL (
                    SELECT substring(conname FROM '[0-9]{4}-[0-9]{2}-[0-9]{2}$')::date AS day
                    FROM pg_constraint
                    WHERE
                        conrelid = usage_type.raw_table::regclass
                        AND starts_with(conname, 'usage_raw_kept_from_')
                ) AS closed ON TRUE
            ) AS reached
    ) AS needed
    WHERE needed.day - date '1999-12-31' > needed.reached
"""


def behind() -> dict[str, date]:
    """The sequences that are behind the state, and the day that each must reach. In a window the
    check of the raw tables is one of them, as CHECK."""
    with connection.cursor() as cursor:
        cursor.execute(BEHIND)
        return dict(cursor.fetchall())


def move_forward(sequence: str, day: date) -> None:
    """Move a day number that triggers read. It never goes back, and no rollback undoes it."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval('{sequence}', %(number)s)"  # noqa: S608 - one of two names
            f" FROM {sequence} WHERE last_value < %(number)s",
            {"number": (day - DAY_ZERO).days},
        )


def day_of(sequence: str) -> date:
    """The day that triggers read now from one of the two sequences."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT last_value FROM {sequence}")  # noqa: S608 - one of two names
        (number,) = cursor.fetchone()
    return DAY_ZERO + timedelta(number)


def move_back(sequence: str, day: date) -> None:
    """Move a day number that triggers read back to this day, where it is ahead.

    Only for days that are neither sealed nor announced: changes of these must be logged.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval('{sequence}', %(number)s)"  # noqa: S608 - one of two names
            f" FROM {sequence} WHERE last_value > %(number)s",
            {"number": (day - DAY_ZERO).days},
        )
