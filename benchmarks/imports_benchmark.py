"""Time of import_usage for a file of records, compared with a bare COPY of prepared rows."""

import argparse
import io
import random
import statistics
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.db import connection

from benchmarks.raw import seconds, start_over
from usage.services.imports import ImportOptions, import_file
from usage.services.imports.batches import read_batches
from usage.services.imports.formats import records_format
from usage.services.imports.lines import open_lines
from usage.services.imports.staging import TABLES
from usage.services.imports.values import LATEST, Moments
from usage.services.imports.ways import COPY
from usage.services.raw.partitions import make_partitions

FIRST = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--subscriptions", type=int, default=5_000)


def run(options: argparse.Namespace) -> dict[str, str | float | list[float]]:
    """Run both alternately, each time into empty tables whose partitions exist."""
    make_partitions((FIRST + timedelta(days=day)).date() for day in range(-1, DAYS + 2))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "records.csv"
        write_file(path, options.records, options.subscriptions)
        _make_subscriptions(options.subscriptions)
        rows = _copy_rows(path)
        imports, copies, repeats = [], [], []
        for _ in range(options.rounds):
            start_over()
            copies.append(seconds(lambda: _bare_copy(rows)))
            start_over()
            imports.append(seconds(lambda: import_file(str(path), ImportOptions())))
            repeats.append(seconds(lambda: import_file(str(path), ImportOptions())))
    copy, imported, repeated = map(statistics.median, (copies, imports, repeats))
    return {
        "import_usage at, of the speed of a bare COPY": f"{copy / imported:.0%}",
        "the same file again at": f"{copy / repeated:.0%}",
        "import_usage, records a second": f"{options.records / imported:,.0f}",
        "the same file again, records a second": f"{options.records / repeated:,.0f}",
        "bare COPY, records a second": f"{options.records / copy:,.0f}",
        "records": options.records,
        "subscriptions": options.subscriptions,
        "import_usage, seconds": _rounded(imports),
        "the same file again, seconds": _rounded(repeats),
        "bare COPY, seconds": _rounded(copies),
    }


def write_file(path: Path, records: int, subscriptions: int) -> None:
    """Write records of ten days as a network sends them: nearly in order of time, 60 % data."""
    chance = random.Random(1)  # noqa: S311
    with path.open("w") as file:
        file.write("usage_type,external_id,usage_date,price,quantity,record_key\n")
        for number in range(records):
            offset = number * DAYS * 86_400 / records + chance.randrange(3_600)
            moment = (FIRST + timedelta(seconds=offset)).isoformat(timespec="milliseconds")
            subscription = int(subscriptions * chance.random() ** 2)
            usage_type, price, quantity = (
                ("data", f"{chance.randrange(10**7) / 10**8:.8f}", chance.randrange(500_000))
                if chance.random() < 0.6
                else ("voice", f"{chance.randrange(10**4) / 100:.2f}", chance.randrange(3_600))
            )
            file.write(f"{usage_type},s{subscription:06},{moment},{price},{quantity},k{number}\n")


def _make_subscriptions(count: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usage_subscription (external_id)"
            " SELECT 's' || lpad(number::text, 6, '0') FROM generate_series(0, %s) AS s (number)",
            [count - 1],
        )


def _copy_rows(path: Path) -> dict[str, str]:
    """Return the input of COPY: the rows of the file in its order, with ids of subscriptions."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT external_id, id FROM usage_subscription")
        subscriptions = dict(cursor.fetchall())
    rows: dict[str, list[str]] = {usage_type: [] for usage_type in TABLES}
    moments = Moments(None, 0, LATEST)
    with open_lines(str(path)) as lines:
        for batch in read_batches(lines, records_format(lines, path.name, moments), 50_000):
            for usage_type, records in batch.records.items():
                rows[usage_type] += [
                    f"{subscriptions[external_id]}{stored}\n"
                    for _, _, external_id, stored in records
                ]
    return {usage_type: "".join(lines) for usage_type, lines in rows.items()}


def _bare_copy(rows: dict[str, str]) -> None:
    with connection.cursor() as cursor:
        for usage_type, (table, quantity) in TABLES.items():
            cursor.copy_expert(
                COPY.format(table=table, quantity=quantity), io.StringIO(rows[usage_type])
            )


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]
