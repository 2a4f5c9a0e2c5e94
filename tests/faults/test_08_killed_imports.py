"""Imports killed at random moments, and one file imported by two processes at once."""

import random
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.connections import run_sql, wait_until
from tests.exact import Rows, assert_exact, totals_of
from tests.factories import refresh_totals
from tests.faults.import_process import BATCH_LINES, start_import
from tests.faults.trials import Trials
from tests.processes import ROOT, database_url
from tests.usage.importing import stored_count, write_records

SUBSCRIPTIONS = 20
LINES = 15_000
KILLED, BESIDE_ANOTHER, TWO_AT_ONCE = range(3)


@pytest.fixture
def forked_imports(
    only_default_partitions: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let imports use the test database, and write files of rejected lines to tmp_path."""
    monkeypatch.setenv("DATABASE_URL", database_url())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


def write_usage(path: Path, number: int) -> Rows:
    """Write a file with records that no other file has; return their daily totals."""
    chance = random.Random(number)
    first = datetime(2026, 11, 1, tzinfo=UTC)
    totals: dict[tuple[str, date, str], list[Any]] = {}
    lines = []
    for line in range(LINES):
        usage_type, name = chance.choice(["data", "voice"]), f"s{chance.randrange(SUBSCRIPTIONS)}"
        at = first + timedelta(seconds=chance.randrange(5 * 86_400))
        price, quantity = Decimal(chance.randrange(10**9)).scaleb(-8), chance.randrange(10**6)
        lines.append(f"{usage_type},{name},{at.isoformat()},{price:f},{quantity},{number}-{line}")
        total = totals.setdefault((name, at.date(), usage_type), [Decimal(0), 0, 0])
        total[:] = [total[0] + price, total[1] + quantity, total[2] + 1]
    write_records(path, *lines)
    return [(*key, *total) for key, total in sorted(totals.items())]


def published() -> Rows:
    names = dict(run_sql("SELECT id, external_id FROM usage_subscription"))
    return sorted((names[pk], *rest[:-1]) for pk, *rest in totals_of("usage_daily"))


def importers() -> int:
    """Return the number of sessions of imports; the server may still execute a killed one's."""
    ((count,),) = run_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return count


def ended(process: BaseProcess) -> int:
    process.join(120)
    assert process.exitcode is not None, "the import goes on after two minutes"
    return process.exitcode


@pytest.mark.usefixtures("forked_imports")
def test_killed_and_repeated_imports_give_exact_totals(trials: Trials, tmp_path: Path) -> None:
    """A third of the imports is killed and repeated. A third is killed while another process
    imports the same file. In the last third two processes import the same file to the end.

    Every import commits 15 times. Fails when a repeated line becomes another record, or when an
    interrupted batch leaves some of its records.
    """
    chance = random.Random(trials.full)
    path = tmp_path / "usage.csv"
    write_usage(path, -1)
    began = time.monotonic()
    assert ended(start_import(str(path))) == 0
    longest = time.monotonic() - began
    for number in trials.of("imports", short=6, full=200):
        kind = number % 3
        run_sql("TRUNCATE usage_datausagerecord, usage_voiceusagerecord")
        expected = write_usage(path, number)
        processes = [start_import(str(path)) for _ in range(1 if kind == KILLED else 2)]
        if kind != TWO_AT_ONCE:
            if number % 2:
                wait_until(stored_count, seconds=60, what="the first batch")
            time.sleep(chance.uniform(0, longest / 2))
            processes[0].kill()
            count_kill(processes.pop(0), trials)
        assert [ended(process) for process in processes] == [0] * len(processes)
        wait_until(lambda: importers() == 0, seconds=60, what="the server to notice")
        if kind == KILLED:
            assert ended(start_import(str(path))) == 0
        else:
            trials.count("with a second process on the same file")
        assert stored_count() == LINES
        refresh_totals()
        assert published() == expected
    assert_exact()
    if trials.full:
        assert trials.counts["killed between two batches"] > 50


def count_kill(process: BaseProcess, trials: Trials) -> None:
    """Count the moment of the kill, which shows whether the trials cover all moments."""
    killed = ended(process) != 0
    written = stored_count()
    assert written % BATCH_LINES == 0
    where = "between two batches" if 0 < written < LINES else "before the first"
    trials.count(f"killed {where}" if killed and written < LINES else "ended before the kill")
