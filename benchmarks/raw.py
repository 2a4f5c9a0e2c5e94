"""Raw records that PostgreSQL makes for benchmarks, and helpers to run and time statements."""

import time
from collections.abc import Callable
from datetime import date, timedelta

from django.db import connection

from usage.services.raw.partitions import make_partitions

KINDS = {"data": "kilobytes_used", "voice": "seconds_used"}


def seconds(action: Callable[[], object]) -> float:
    """Return the seconds that the action took."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def one(query: str) -> int:
    """Return the single number of a query."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def start_over() -> None:
    """Empty every relation: the state after the first migrate."""
    execute(
        "TRUNCATE usage_datausagerecord, usage_voiceusagerecord",
        "TRUNCATE usage_daily_sealed, usage_late_key, usage_period_total, usage_refreshrun",
        "SELECT setval('usage_logging_before', 0), setval('usage_raw_kept_from', 0)",
        "UPDATE usage_state"
        " SET sealed_before = NULL, fence = NULL, fence_day = NULL, open_digest = NULL",
        "REFRESH MATERIALIZED VIEW usage_daily_open",
    )


def fill(*, today: date, days: int, records: int, subscriptions: int) -> None:
    """Make records of both types, spread evenly over the days until today, and their partitions."""
    make_partitions(today + timedelta(offset) for offset in range(-days, 3))
    execute(
        "INSERT INTO usage_subscription (external_id) SELECT 's' || number"
        f" FROM generate_series(1, {subscriptions}) AS numbers (number) ON CONFLICT DO NOTHING"
    )
    for offset in range(days):
        add(day=today - timedelta(offset), records=records // days, subscriptions=subscriptions)
    execute("VACUUM ANALYZE usage_datausagerecord", "VACUUM ANALYZE usage_voiceusagerecord")


def add(*, day: date, records: int, subscriptions: int, days_back: int = 0) -> None:
    """Add records, half data, half voice, on the day or spread over `days_back` days before it."""
    spread = f"- floor(random() * {days_back})::integer" if days_back else ""
    with connection.cursor() as cursor:
        for kind, quantity in KINDS.items():
            cursor.execute(
                f"INSERT INTO usage_{kind}usagerecord"
                f" (subscription_id, usage_date, {quantity}, price)"
                f" SELECT 1 + floor(random() * {subscriptions})::bigint,"
                f" usage_day_start(%s {spread}) + random() * interval '86399 seconds',"
                " floor(random() * 100000)::bigint, round(random()::numeric * 10, 4)"
                f" FROM generate_series(1, {records // 2})",
                [day],
            )
