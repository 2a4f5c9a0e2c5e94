"""Size of the period totals after a year of refreshes, with and without rebuilt indexes."""

import argparse
import statistics
from collections.abc import Callable
from datetime import date, timedelta

from django.db import connection, transaction

from benchmarks.raw import execute, seconds, start_over
from usage.services.totals import periods
from usage.services.totals.changes import Changes
from usage.services.totals.indexes import rebuild_loose
from usage.sql import queries

Figures = dict[str, object]

FIRST_DAY = date(2026, 1, 1)
RELATIONS = [
    "usage_period_total",
    *(f"usage_period_total_{i}" for i in ("pkey", "price", "largest")),
]
CHANGE = f"""
    WITH changed AS (
        {queries.read("_note")}
        SELECT subscription, %(day)s, usage_type, round(random()::numeric, 8), 100, 1
        FROM
            generate_series(1, %(subscriptions)s) AS subscriptions (subscription),
            unnest(ARRAY['data', 'voice']) AS types (usage_type)
        WHERE random() < 0.25
        RETURNING subscription_id, day, usage_type, total_price, total_usage, record_count
    )

    SELECT {queries.read("_fingerprint")} FROM changed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscriptions", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--ticks", type=int, default=12, help="a day; each changes a quarter")


def run(options: argparse.Namespace) -> Figures:
    """Return ratios of sizes, then seconds of refreshes and of rebuilds."""
    figures: Figures = {}
    for name, once_a_day in (("left alone", list[str]), ("built anew when loose", rebuild_loose)):
        start_over()
        ticks, builds, built = pass_days(options, once_a_day)
        loaded = sizes()
        execute("VACUUM FULL usage_period_total")
        fresh = sizes()
        for relation in RELATIONS:
            figures[f"{name}: {relation}, times a fresh build"] = round(
                loaded[relation] / fresh[relation], 2
            )
        figures[f"{name}: s a tick, median"] = round(statistics.median(ticks), 4)
        figures[f"{name}: indexes built, s for all, s for all ticks"] = [
            built,
            round(sum(builds), 1),
            round(sum(ticks), 1),
        ]
    return figures


def pass_days(
    options: argparse.Namespace, once_a_day: Callable[[], list[str]]
) -> tuple[list[float], list[float], int]:
    """Return the seconds of each tick and of each daily job, and the number of rebuilt indexes."""
    ticks: list[float] = []
    builds: list[float] = []
    names: list[str] = []
    for number in range(options.days):
        day = FIRST_DAY + timedelta(number)
        for _ in range(options.ticks):
            ticks.append(tick(day, options.subscriptions))
            if periods.has_many_dead_rows():
                execute("VACUUM (SKIP_LOCKED, TRUNCATE FALSE) usage_period_total")
        builds.append(seconds(lambda: names.extend(once_a_day())))
    return ticks, builds, len(names)


def tick(day: date, subscriptions: int) -> float:
    """Return the seconds to add the changes of one tick to the totals."""
    with transaction.atomic(), connection.cursor() as cursor:
        changes = Changes()
        cursor.execute(CHANGE, {"day": day, "subscriptions": subscriptions})
        changes.add_written(cursor.fetchone()[0], day)
        return seconds(lambda: periods.apply_changes(changes))


def sizes() -> dict[str, int]:
    """Return the bytes of each relation; those of the table include its indexes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, pg_total_relation_size(name) FROM unnest(%s) AS names (name)", [RELATIONS]
        )
        return dict(cursor.fetchall())
