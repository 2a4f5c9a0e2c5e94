"""A full disk: of the temporary tables of a refresh, and of the write-ahead log."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from bin import place as places
from bin import processes
from bin.embedded import PostgreSQL
from tests.connections import ask, wait_until
from tests.faults.installation import Installation
from tests.faults.killing import assert_becomes_exact, wait_for_refresh
from tests.faults.ledger import Days, Ledger
from tests.faults.traffic import Traffic
from tests.faults.trials import Trials

FAILED = "SELECT error FROM usage_refreshrun WHERE status = 'failed' AND started_at > %s LIMIT 1"
FULL = "No space left on device"
# This writes to the log alone, less than the small disk holds.
LOG_MUCH = "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000))"
LOG_MEGABYTES = 256


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a small file system over a directory; skip the test without the right to mount."""
    account = places.server_account()
    if account is None:
        pytest.skip("Only root may mount a small file system to fill.")
    places.give(path, account)
    done = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    if done.returncode != 0:
        pytest.skip(f"No small file system to fill: {done.stderr.strip()}")
    try:
        yield places.give(path, account)
    finally:
        subprocess.run(["umount", path], check=True, timeout=30)


def resize(path: Path, size: str) -> None:
    """Change the size of the file system, once its content fits."""

    def is_resized() -> bool:
        return _mount("-o", f"remount,size={size}", str(path)).returncode == 0

    wait_until(is_resized, seconds=60, what=f"{path} to have {size}")


def _mount(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["mount", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def start(installation: Installation, session: Connection, ledger: Ledger) -> None:
    """Start a worker and beat, with enough totals to fill a small disk."""
    installation.manage(
        "generate_usage", "--subscriptions", "2000", "--days", "3", "--records", "30000"
    )
    ledger.make(session)
    installation.start(processes.worker(), "celery.log")
    installation.start(processes.beat(str(installation.place / "beat")), "celery.log")
    wait_for_refresh(session)


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory for servers; remove it at the end."""
    made = places.passing_place(places.server_account())
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_refresh_without_room_for_its_temporary_tables_says_so_and_the_next_one_goes_on(
    place: Path, trials: Trials
) -> None:
    """Fails when the error does not name the full disk, or when a failed refresh leaves something
    behind."""
    ledger = Ledger(Days(datetime.now(UTC).date(), to_seal=2))
    with (
        small_disk(place / "temporary", "64m") as disk,
        Installation(place, {"temp_tablespaces": "small"}) as installation,
        closing(installation.database.connect()) as root,
        installation.session() as session,
    ):
        ask(root, f"CREATE TABLESPACE small LOCATION '{disk}'")
        ask(root, "GRANT CREATE ON TABLESPACE small TO usage")
        start(installation, session, ledger)
        with Traffic(installation, ledger, trials) as traffic:
            for _ in trials.of("disks full for temporary tables", short=1, full=5, minutes=8):
                resize(disk, "128k")
                ((full_at,),) = ask(session, "SELECT now()")
                ((error,),) = wait_until(
                    partial(ask, session, FAILED, [full_at]), seconds=60, what="a failed run"
                )
                assert error.startswith("The server is short of resources: "), error
                assert error.endswith(f"{FULL}. Free disk space, memory or connections."), error
                as_of = ask(session, "SELECT as_of FROM usage_state")
                status = json.loads(installation.manage("usage_status", "--json"))
                assert FULL in status["last_failure"]["error"]
                assert ask(session, "SELECT as_of FROM usage_state") == as_of
                resize(disk, "64m")
                wait_for_refresh(session)
                traffic.check()
        assert_becomes_exact(session)


def test_a_server_without_room_for_its_log_comes_back_whole_once_there_is_room(
    place: Path, trials: Trials
) -> None:
    """Fails when the server acknowledges a commit before it is in the log."""
    ledger = Ledger(Days(datetime.now(UTC).date(), to_seal=2))
    with Installation(place, {"min_wal_size": "32MB"}) as installation, ExitStack() as stack:
        database = installation.database
        database.stop()
        log = move_log(database.data, place / "pg_wal", stack)
        stack.callback(installation.stop)
        database.start()
        with installation.session() as session:
            start(installation, session, ledger)
        with Traffic(installation, ledger, trials) as traffic:
            for _ in trials.of("disks full for the log", short=1, full=5, minutes=8):
                traffic.goes_away()
                fill(log / "filler")
                write_until_refused(database)
                if has_ended(database):
                    installation.manage("usage_status", exits=2)
                    trials.count("servers that ended by it")
                (log / "filler").unlink()
                if not database.alive():
                    database.start()
                traffic.is_back()
                with installation.session() as session:
                    wait_for_refresh(session)
                traffic.check()
        assert FULL in database.log.read_text()
        with installation.session() as session:
            assert_becomes_exact(session)


def move_log(data: Path, kept: Path, stack: ExitStack) -> Path:
    """Move the log of a server that is stopped to a small disk."""
    log = data / "pg_wal"
    log.rename(kept)
    stack.enter_context(small_disk(log, f"{LOG_MEGABYTES}m"))
    subprocess.run(["cp", "-a", f"{kept}/.", log], check=True, timeout=60)
    return log


def fill(path: Path) -> None:
    """Fill a small disk completely."""
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        for _ in range(16 * LOG_MEGABYTES):
            filler.write(bytes(65_536))


def write_until_refused(database: PostgreSQL) -> None:
    with closing(database.connect()) as root, suppress(psycopg2.Error):
        for _ in range(2 * LOG_MEGABYTES):
            ask(root, LOG_MUCH)
        raise AssertionError("the disk did not become full")


def has_ended(database: PostgreSQL) -> bool:
    """Return True if the server ended, False if it recovered by itself; wait for either."""

    def outcome() -> str:
        if not database.alive():
            return "ended"
        with suppress(psycopg2.Error):
            database.connect().close()
            return "came back"
        return ""

    return bool(wait_until(outcome, seconds=120, what="the server to end or come back") == "ended")
