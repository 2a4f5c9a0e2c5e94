"""Files to import, and what the tables hold afterwards."""

import gzip
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.connections import run_sql
from tests.processes import ROOT, database_url
from usage.services.imports import ImportOptions, ImportReport, import_file

HEADER = "usage_type,external_id,usage_date,price,quantity,record_key"
ANY_DAY = 36_500
Process = subprocess.Popen[str]


def write_records(path: Path, *lines: str, header: str = HEADER) -> Path:
    return write(path, header, *lines)


def write(path: Path, *lines: str) -> Path:
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def many_records(path: Path, count: int) -> Path:
    """Records of one kilobyte and 0.00000001 each, a second apart, for 50 subscriptions."""
    first = datetime(2026, 11, 1, tzinfo=UTC)
    with path.open("w") as file:
        file.write(f"{HEADER}\n")
        for number in range(count):
            moment = (first + timedelta(seconds=number)).isoformat()
            file.write(f"data,s{number % 50},{moment},0.00000001,1,k{number}\n")
    return path


def imported(path: Path, **options: Any) -> ImportReport:
    """The result of an import of records that may lie ahead of the day of the test run."""
    return import_file(str(path), ImportOptions(**{"future": ANY_DAY, **options}))


def counts(report: ImportReport) -> tuple[int, int, int, int]:
    """Lines read, added, already known and rejected."""
    return report.read, report.added, report.already_known, report.rejected


def stored() -> list[tuple[str, str, str, str, int]]:
    """Usage type, subscription, moment in UTC, price and quantity of every record, in order."""
    return run_sql(
        "SELECT usage_type, external_id,"
        " to_char(usage_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.FF3'),"
        " price::text, quantity FROM ("
        "SELECT 'data' AS usage_type, subscription_id, usage_date, price,"
        " kilobytes_used AS quantity FROM usage_datausagerecord UNION ALL"
        " SELECT 'voice', subscription_id, usage_date, price, seconds_used"
        " FROM usage_voiceusagerecord) AS records"
        " INNER JOIN usage_subscription ON usage_subscription.id = subscription_id"
        " ORDER BY usage_date, usage_type, external_id, price"
    )


def stored_count() -> int:
    ((count,),) = run_sql(
        "SELECT (SELECT count(*) FROM usage_datausagerecord)"
        " + (SELECT count(*) FROM usage_voiceusagerecord)"
    )
    return count


def start_command(*arguments: str | Path, cwd: Path, **streams: int) -> Process:
    """A manage.py command in a process of its own, on the test database."""
    return start_python(ROOT / "manage.py", *arguments, cwd=cwd, **streams)


def start_python(
    *arguments: str | Path, cwd: Path, stdin: int | None = None, stderr: int = subprocess.PIPE
) -> Process:
    """Python in a process of its own, with the settings and the test database."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONPATH": str(ROOT),
        },
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def finished(processes: Iterable[Process]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and error of each process once it has ended."""
    return [
        (process.wait(), *outputs)
        for process, outputs in [
            (process, process.communicate(timeout=60)) for process in processes
        ]
    ]


def call(start: str, end: str, cost: str = "10", number: str = "1") -> str:
    """A line of call records; start and end like 15/11/2026 21:00:00."""
    (start_day, start_time), (end_day, end_time) = start.split(), end.split()
    return f"{number},01,1,02,{start_day},{end_day},{start_time},{end_time},Local,{cost}"
