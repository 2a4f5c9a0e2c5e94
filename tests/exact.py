"""The expected totals: a plain GROUP BY over raw records, independent of the SQL files."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

from tests.connections import run_sql
from tests.histories import DATA, QUANTITIES, VOICE

Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]


def plain_totals(ask: Ask = run_sql, zone: str = "UTC") -> Rows:
    """Return totals by subscription, day and usage type of the raw records that a session sees."""

    def of(table: str, usage_type: str) -> str:
        return (
            f"SELECT subscription_id, (usage_date AT TIME ZONE '{zone}')::date, '{usage_type}',"
            f" sum(price), sum({QUANTITIES[table]})::bigint, count(*), max(usage_date)"
            f" FROM {table} GROUP BY 1, 2"
        )

    return ask(f"{of(DATA, 'data')} UNION ALL {of(VOICE, 'voice')} ORDER BY 1, 2, 3")


def totals_of(relation: str, ask: Ask = run_sql) -> Rows:
    """Return the totals in usage_daily, usage_daily_live or another daily relation."""
    return ask(
        "SELECT subscription_id, day, usage_type, total_price, total_usage, record_count,"
        f" last_usage_at FROM {relation} ORDER BY 1, 2, 3"
    )


def periods_of(daily: Rows) -> Rows:
    """Return period totals, the sums of these daily rows, with is_largest."""
    sums: dict[tuple[int, date, str], list[Any]] = {}
    for subscription_id, day, usage_type, price, usage, records, _ in daily:
        for period in (date.min, day.replace(day=1)):
            total = sums.setdefault((subscription_id, period, usage_type), [Decimal(0), 0, 0])
            for place, addend in enumerate((price, usage, records)):
                total[place] += addend
    rows = []
    for (subscription_id, period, usage_type), total in sorted(sums.items()):
        rivals = [
            (-sums[key][0], usage_type)
            for usage_type in ("data", "voice")
            if (key := (subscription_id, period, usage_type)) in sums
        ]
        is_largest = min(rivals) == (-total[0], usage_type)
        rows.append((subscription_id, period, usage_type, *total, is_largest))
    return rows


def stored_periods(ask: Ask = run_sql) -> Rows:
    """Return the totals of months and of all days in usage_period_total."""
    return ask(
        "SELECT subscription_id, period, usage_type, total_price, total_usage, record_count,"
        " is_largest FROM usage_period_total ORDER BY 1, 2, 3"
    )


def assert_exact() -> None:
    """Assert that published and live totals equal the plain ones; call it after a refresh."""
    expected = plain_totals()
    assert totals_of("usage_daily") == expected
    assert totals_of("usage_daily_live") == expected
    assert stored_periods() == periods_of(expected)
