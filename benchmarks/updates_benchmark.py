"""Cost for an UPDATE of raw records of the row trigger that captures rows moved by MERGE."""

import argparse
import statistics
from datetime import date, timedelta

from django.db import connection, transaction

from benchmarks.raw import execute, fill, one, seconds, start_over
from usage.sql import capture

Figures = dict[str, object]

TABLE = "usage_datausagerecord"
TODAY = date(2026, 11, 20)
SEALED = TODAY - timedelta(5)
CASES = {
    "price, an open day": (TODAY, "price = price + 1"),
    "price, a sealed day": (SEALED, "price = price + 1"),
    "moved to another open day": (TODAY, "usage_date = usage_date + interval '1 day'"),
    "moved to another sealed day": (SEALED, "usage_date = usage_date + interval '1 day'"),
}
ROW_TRIGGERS = ("usage_log_late_keys_move", "usage_note_statement")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=200_000, help="of a day, half of them data")
    parser.add_argument("--subscriptions", type=int, default=10_000)


def run(options: argparse.Namespace) -> Figures:
    """Return ratios of time and of WAL. Updates with and without the trigger alternate, and each is
    rolled back."""
    start_over()
    fill(
        today=TODAY,
        days=6,
        records=options.records * 6,
        subscriptions=options.subscriptions,
    )
    days = (SEALED + timedelta(2) - date(1999, 12, 31)).days
    execute(f"SELECT setval('usage_logging_before', {days})")
    figures: Figures = {}
    for name, (day, change) in CASES.items():
        update = (
            f"UPDATE {TABLE} SET {change} WHERE usage_date >= '{day} 00:00Z'"
            f" AND usage_date < '{day + timedelta(1)} 00:00Z'"
        )
        measured: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
        for number in range(options.rounds):
            for with_trigger in (True, False)[:: -1 if number % 2 else 1]:
                measured[with_trigger].append(_measure(update, with_trigger=with_trigger))
        times, logs = (
            {how: statistics.median(pair[place] for pair in measured[how]) for how in measured}
            for place in (0, 1)
        )
        figures[f"{name}: times what it takes without (at most 1.3)"] = round(
            times[True] / times[False], 2
        )
        figures[f"{name}: WAL, times that without"] = round(logs[True] / logs[False], 2)
        figures[f"{name}: s with and without"] = [round(times[how], 3) for how in (True, False)]
    return figures


def _measure(update: str, *, with_trigger: bool) -> tuple[float, int]:
    """Run the update and roll it back; return its seconds and its bytes of WAL."""
    execute(f"VACUUM {TABLE}")
    with transaction.atomic():
        if not with_trigger:
            execute(capture.drop(ROW_TRIGGERS))
        before = one("SELECT pg_current_wal_insert_lsn() - '0/0'")
        taken = seconds(lambda: execute(update))
        written = one("SELECT pg_current_wal_insert_lsn() - '0/0'") - before
        transaction.set_rollback(True)
    connection.close()
    return taken, written
