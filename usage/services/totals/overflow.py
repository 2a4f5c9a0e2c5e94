"""Sums that are too large for a bigint: find their subscriptions, days and usage types.

New records are too small to cause such a sum. Records of earlier releases may have quantities of up
to 2^40.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

from django.db import DatabaseError, DataError, connection, transaction

from usage.database.errors import NUMERIC_VALUE_OUT_OF_RANGE, first_line, sqlstate
from usage.errors import SumTooLargeError
from usage.models import MOST_QUANTITY, PeriodTotal, UsageState, UsageType
from usage.sql import queries

# The search reads raw records once more. Each of its statements may take this long, and the error
# names at most this many keys.
SEARCH_SECONDS = 60
MOST_KEYS = 10

# The local day of a moment may lie one day before 2000 in UTC, or one day after 2099.
FIRST_DAY, LAST_DAY = date(1999, 12, 31), date(2100, 1, 1)


@dataclass(frozen=True)
class LargeSum:
    """A sum that is too large for a bigint: of one day or, if is_period, of a month or all days."""

    subscription_id: int
    day: date
    usage_type: UsageType
    is_period: bool = False

    def __str__(self) -> str:
        when = f"on {self.day}"
        if self.is_period:
            is_all = self.day == PeriodTotal.ALL_DAYS
            when = "on all days together" if is_all else f"in {self.day:%Y-%m}"
        return f"{self.usage_type.value} of subscription {self.subscription_id} {when}"


@contextmanager
def large_sums_named(
    *,
    subscription_ids: Sequence[int] | None = None,
    from_date: date | None = None,
    to_date: date | None = None,
) -> Iterator[None]:
    """Raise SumTooLargeError, which names the keys, if a sum in the block is too large.

    The block must end its own transaction. The search is limited to these subscriptions and days.
    """
    try:
        yield
    except DataError as error:
        if (named := explain(error, subscription_ids, from_date, to_date)) is None:
            raise
        raise named from error


def explain(
    error: Exception,
    subscription_ids: Sequence[int] | None = None,
    from_date: date | None = None,
    to_date: date | None = None,
    *,
    seconds: int = SEARCH_SECONDS,
) -> SumTooLargeError | None:
    """Return an error that names the sums that are too large, or None if `error` has another cause.

    Must not be called in the transaction that failed. It runs at most three statements, each of
    which may take `seconds`.
    """
    if sqlstate(error) != NUMERIC_VALUE_OUT_OF_RANGE:
        return None
    try:
        keys = _find(subscription_ids, from_date or FIRST_DAY, to_date or LAST_DAY, seconds)
    except DatabaseError as search_error:
        return SumTooLargeError(
            f"A sum of usage is larger than 2^63 - 1. The search for its subscription failed: "
            f"{first_line(search_error)}. Correct or delete all records above {MOST_QUANTITY} "
            "kilobytes or seconds."
        )
    if not keys:
        return None
    more = " and perhaps more" if len(keys) == MOST_KEYS else ""
    return SumTooLargeError(
        f"Usage adds up to more than 2^63 - 1: {'; '.join(map(str, keys))}{more}. Correct or "
        f"delete the records there that are above {MOST_QUANTITY} kilobytes or seconds, then run: "
        "manage.py refresh_usage"
    )


def _find(
    subscription_ids: Sequence[int] | None, first: date, last: date, seconds: int
) -> list[LargeSum]:
    """Return the sums that are too large. Search open days first, then sealed days, then periods,
    and stop at the first hits."""
    state = UsageState.objects.get()
    kept_from = max(first, state.raw_kept_from or FIRST_DAY)
    open_from = max(kept_from, state.sealed_before or FIRST_DAY)
    ids = None if subscription_ids is None else list(subscription_ids)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{seconds}s'")
        cursor.execute("SET LOCAL jit = off")
        for first_day, last_day in [(open_from, last), (kept_from, min(open_from, last))]:
            if first_day > last_day:
                continue
            cursor.execute(
                queries.read("large_days"),
                {
                    "first_day": first_day,
                    "last_day": last_day,
                    "subscription_ids": ids,
                    "most": MOST_KEYS,
                },
            )
            if rows := cursor.fetchall():
                return [LargeSum(pk, day, UsageType(name)) for pk, day, name in rows]
        if ids is not None:
            return []
        cursor.execute(
            queries.read("large_periods"), {"all_days": PeriodTotal.ALL_DAYS, "most": MOST_KEYS}
        )
        return [
            LargeSum(pk, period, UsageType(name), is_period=True)
            for pk, period, name in cursor.fetchall()
        ]
