"""Cost of a key and of the triggers for writers, compared with the usual ways to keep totals."""

import argparse
import io
import random
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial

import psycopg2
from django.db import connection, transaction
from django.db.models.signals import post_save

from benchmarks.raw import execute, seconds
from usage.models import DataUsageRecord
from usage.services.raw.partitions import leaf_name, make_partitions

COLUMNS = "(subscription_id, usage_date, kilobytes_used, price)"
TRANSACTION_ROWS = 500
SIGNAL_ROWS = 5_000
OURS = "usage_datausagerecord"
TABLES = {
    "bare table": "bench_bare",
    "with our key": "bench_key",
    "with key and triggers (ours)": OURS,
    "row triggers that upsert": "bench_rows",
}
UPSERT_TOTAL = """
    ON CONFLICT (subscription_id, day) DO UPDATE SET
        total_price = totals.total_price + excluded.total_price,
        total_usage = totals.total_usage + excluded.total_usage,
        record_count = totals.record_count + 1
"""
UPSERT_NEW_ROW = f"""
    INSERT INTO bench_totals AS totals VALUES (
        new.subscription_id, usage_day(new.usage_date), new.price, new.kilobytes_used, 1
    ) {UPSERT_TOTAL}
"""


def measure_loading(options: argparse.Namespace, today: date) -> dict[str, object]:
    """Return records a second into each kind of table, today and on a sealed day, and deadlocks."""
    figures: dict[str, object] = {}
    days = {"today": today, "a sealed day": today - timedelta(10)}
    make_partitions(days.values())
    _make_tables(list(days.values()))
    for name, day in days.items():
        rows = list(_rows(day, options.load, options.subscriptions))
        case = f"COPY of {options.load:,}, {name}"
        figures |= _alternate(options, case, len(rows), list(days.values()), partial(_copy, rows))
    # Fewer rows: parallel writers with row triggers wait a second for each of many deadlocks.
    rows = list(_rows(today, max(options.load // 10, 1), options.subscriptions))
    for writers in (1, 4):
        case = f"transactions of {TRANSACTION_ROWS}, {writers} writer{'s'[: writers > 1]}, today"
        deadlocks = dict.fromkeys(TABLES.values(), 0)

        def write(
            table: str, writers: int = writers, deadlocks: dict[str, int] = deadlocks
        ) -> None:
            deadlocks[table] += _write(table, rows, writers)

        figures |= _alternate(options, case, len(rows), list(days.values()), write)
        figures[f"{case}: deadlocks"] = {
            name: deadlocks[table] for name, table in TABLES.items() if deadlocks[table]
        } or "none"
    rows = rows[:SIGNAL_ROWS]
    figures["ORM save and a signal that upserts: records a second"] = _signals(rows)
    return figures


def _make_tables(days: list[date]) -> None:
    for table, including in [
        ("bench_bare", ""),
        ("bench_key", "INCLUDING INDEXES"),
        ("bench_rows", "INCLUDING INDEXES"),
    ]:
        execute(
            f"CREATE TABLE {table} (LIKE {OURS} INCLUDING DEFAULTS INCLUDING CONSTRAINTS"
            f" {including}) PARTITION BY RANGE (usage_date)"
        )
        for day in days:
            execute(
                f"CREATE TABLE {leaf_name(table, day)} PARTITION OF {table} FOR VALUES"
                f" FROM ('{day}') TO ('{day + timedelta(1)}')"
            )
    execute(
        "CREATE TABLE bench_totals (subscription_id bigint, day date, total_price numeric,"
        " total_usage bigint, record_count bigint, PRIMARY KEY (subscription_id, day))",
        "CREATE FUNCTION bench_upsert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        + UPSERT_NEW_ROW
        + "; RETURN NULL; END $$",
        "CREATE TRIGGER bench_upsert AFTER INSERT ON bench_rows"
        " FOR EACH ROW EXECUTE FUNCTION bench_upsert()",
    )


def _rows(day: date, count: int, subscriptions: int) -> Iterator[str]:
    chance = random.Random(1)  # noqa: S311
    for _ in range(count):
        second = chance.randrange(86_400)
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{second % 997:03}"
        yield (
            f"{chance.randrange(subscriptions) + 1}\t{day} {clock}+00\t"
            f"{chance.randrange(10**6)}\t{chance.randrange(10**5) / 10**4:.4f}\n"
        )


def _alternate(
    options: argparse.Namespace,
    case: str,
    count: int,
    days: list[date],
    write: Callable[[str], None],
) -> dict[str, object]:
    times: dict[str, list[float]] = {name: [] for name in TABLES}
    for number in range(options.rounds):
        names = list(TABLES)
        for name in names[number % 4 :] + names[: number % 4]:
            for day in days:
                # No trigger logs a TRUNCATE of the partition itself.
                execute(f"TRUNCATE {leaf_name(TABLES[name], day)}")
            execute("TRUNCATE usage_late_key, bench_totals")
            times[name].append(seconds(partial(write, TABLES[name])))
    rates = {name: round(count / statistics.median(values)) for name, values in times.items()}
    key, triggers = rates["with our key"], rates["with key and triggers (ours)"]
    return {
        f"{case}: ours, of the speed without our triggers": round(triggers / key, 2),
        f"{case}: records a second": rates,
    }


def _copy(rows: list[str], table: str) -> None:
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} {COLUMNS} FROM STDIN", io.StringIO("".join(rows)))


def _write(table: str, rows: list[str], writers: int) -> int:
    """Commit transactions from several connections at once; return the number of deadlocks."""
    deadlocks = [0] * writers

    def work(writer: int) -> None:
        parameters = connection.get_connection_params()
        parameters.pop("cursor_factory", None)
        parameters.pop("context", None)
        with closing(psycopg2.connect(**parameters)) as own, own.cursor() as cursor:
            for start in range(writer * TRANSACTION_ROWS, len(rows), writers * TRANSACTION_ROWS):
                text = "".join(rows[start : start + TRANSACTION_ROWS])
                try:
                    cursor.copy_expert(f"COPY {table} {COLUMNS} FROM STDIN", io.StringIO(text))
                except psycopg2.errors.DeadlockDetected:
                    deadlocks[writer] += 1
                    own.rollback()
                else:
                    own.commit()

    threads = [threading.Thread(target=work, args=[writer]) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(deadlocks)


def _signals(rows: list[str]) -> int:
    """Return records a second if Django saves each and a signal adds it to the totals."""

    def add_up(instance: DataUsageRecord, **_kwargs: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO bench_totals AS totals VALUES (%s, usage_day(%s), %s, %s, 1)"
                + UPSERT_TOTAL,
                [
                    instance.subscription_id,
                    instance.usage_date,
                    instance.price,
                    instance.kilobytes_used,
                ],
            )

    def save() -> None:
        for start in range(0, len(rows), TRANSACTION_ROWS):
            with transaction.atomic():
                for row in rows[start : start + TRANSACTION_ROWS]:
                    subscription_id, moment, kilobytes, price = row.rstrip().split("\t")
                    DataUsageRecord.objects.create(
                        subscription_id=int(subscription_id),
                        usage_date=datetime.fromisoformat(moment + ":00"),
                        kilobytes_used=int(kilobytes),
                        price=Decimal(price),
                    )

    post_save.connect(add_up, sender=DataUsageRecord)
    try:
        return round(len(rows) / seconds(save))
    finally:
        post_save.disconnect(add_up, sender=DataUsageRecord)
