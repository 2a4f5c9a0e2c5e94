"""The two sequences that hold a day number for the triggers, and their comparison with the state.

A sequence has no snapshot, so a trigger always reads the current value. A restore or logical
replication may bring the state without the sequences. Sealed days could then change unnoticed, and
days whose raw records are dropped would accept records again.
"""

from datetime import date, timedelta

from django.db import connection

from usage.models import UsageState

# The earliest possible record is at 2000-01-01 UTC, whose local day may be the last of 1999.
DAY_ZERO = date(1999, 12, 31)

# In a window a CHECK constraint of the raw tables refuses records of closed days. Its name has the
# day.
CHECK = "usage_raw_kept_from_check"

# The sequences, and that constraint, that are behind the row of usage_state, with the day each must
# reach. In a window a day is closed when it is sealed.
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
    """Return the sequences that are behind the state, with the day that each must reach. In a
    window the constraint of the raw tables is one of them, as CHECK."""
    with connection.cursor() as cursor:
        cursor.execute(BEHIND)
        return dict(cursor.fetchall())


def move_forward(sequence: str, day: date) -> None:
    """Move a sequence forward to this day, if it is behind. A rollback does not undo it."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval('{sequence}', %(number)s)"  # noqa: S608 - one of two names
            f" FROM {sequence} WHERE last_value < %(number)s",
            {"number": (day - DAY_ZERO).days},
        )


def day_of(sequence: str) -> date:
    """Return the day that triggers now read from one of the two sequences."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT last_value FROM {sequence}")  # noqa: S608 - one of two names
        (number,) = cursor.fetchone()
    return DAY_ZERO + timedelta(number)


def move_back(sequence: str, day: date) -> None:
    """Move a sequence back to this day, if it is ahead.

    Only for days that are neither sealed nor announced: changes of sealed and announced days must
    be logged.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval('{sequence}', %(number)s)"  # noqa: S608 - one of two names
            f" FROM {sequence} WHERE last_value > %(number)s",
            {"number": (day - DAY_ZERO).days},
        )


def closed_until() -> date:
    """Return the first day that is neither closed nor about to be closed."""
    return day_of("usage_raw_kept_from")


def is_closing(state: UsageState) -> bool:
    """Return whether a closing is pending: closed days whose raw records are not dropped yet."""
    return closed_until() > (state.raw_kept_from or DAY_ZERO)
