"""The limit on the number of partitions, and the errors when their locks fill the lock table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.conf import LazySettings
from django.core.checks import run_checks
from django.db import connection

from tests.connections import ask, run_sql, second_session
from tests.exact import assert_exact
from tests.factories import data_record, make_subscription, refresh_and_seal, voice_record
from tests.usage.importing import imported, write_records
from usage.database import lock_room
from usage.errors import RefreshFailedError
from usage.models import RAW_TABLES, RefreshRun, SealedDailyUsage
from usage.services.raw.partitions import make_partitions, most_partitions, partition_days
from usage.services.totals import refresh
from usage.services.totals.status import read_status
from usage.sql import queries

pytestmark = pytest.mark.usefixtures("only_default_partitions")

SetToday = Callable[[str], None]


@pytest.mark.one_server("records lie in shards of a partition")
def test_imports_make_partitions_of_kept_days_only(
    set_today: SetToday, settings: LazySettings, tmp_path: Path
) -> None:
    set_today("2026-11-20")
    settings.USAGE_PARTITION_DAYS = 3
    days = ["2003-01-01", "2026-11-17", "2026-11-18", "2026-12-04", "2026-12-05"]
    lines = [f"data,a,{day}T12:00:00Z,1,1,{day}" for day in days]
    assert imported(write_records(tmp_path / "usage.csv", *lines)).added == len(days)
    assert partition_days("usage_datausagerecord") == [date(2026, 11, 18), date(2026, 12, 4)]
    settings.USAGE_PARTITION_DAYS = 400
    more = write_records(tmp_path / "more.csv", *(line.replace("-17", "-15") for line in lines))
    imported(more, source="more")
    # Raw records are kept for five days, and the 15th is not one of them.
    assert partition_days("usage_datausagerecord") == [date(2026, 11, 18), date(2026, 12, 4)]
    assert most_partitions() == 5 + 14


@contextmanager
def statements_of_seals() -> Iterator[list[str]]:
    seals: list[str] = []

    def note(execute: Callable[..., Any], statement: Any, *arguments: Any) -> Any:
        if statement == queries.read("seal_days"):
            seals.append(str(statement))
        return execute(statement, *arguments)

    with connection.execute_wrapper(note):
        yield seals


@pytest.mark.one_server("no record comes late there")
def test_days_of_the_default_partition_are_sealed_together(set_today: SetToday) -> None:
    """Fails when each of many days in the default partition reads all of it."""
    make_partitions([date(2026, 11, 5), date(2026, 11, 9)])
    subscription = make_subscription(id=1)
    for number in range(60):
        day = date(2026, 9, 20) + timedelta(number)
        data_record(subscription, f"{day}T12:00:00Z", price="1", kilobytes=number)
        voice_record(subscription, f"{day}T13:00:00Z", price="2", seconds=number)
    set_today("2026-11-20")
    with statements_of_seals() as seals:
        run = refresh_and_seal()
    # The days before the 4th; each of the two partitions with its day and the day before; the days
    # between them; the days after them.
    assert len(seals) == 1 + 2 + 1 + 2 + 1
    assert run.days_sealed == 60
    assert SealedDailyUsage.objects.count() == 120
    assert_exact()


@contextmanager
def room_taken(*, but: int) -> Iterator[None]:
    """Let another session hold every lock that the server has room for, except `but` locks."""
    with second_session(autocommit=True) as session:
        taken, number = 100, 0
        while taken:
            try:
                ask(
                    session,
                    "SELECT count(pg_advisory_lock(n)) FROM generate_series(%s, %s) AS n",
                    [number + 1, number + taken],
                )
                number += taken
            except psycopg2.OperationalError:
                taken //= 2
                number += 1_000  # some of these ids were already locked
        held = ask(session, "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory'")
        ask(
            session,
            "SELECT count(pg_advisory_unlock(n)) FROM unnest(%s) AS n",
            [[n for (n,) in held[:but]]],
        )
        yield


@pytest.mark.one_server("it locks partitions on every server")
def test_a_refresh_without_room_for_locks_names_the_setting() -> None:
    make_partitions(date(2026, 11, 1) + timedelta(number) for number in range(100))
    with room_taken(but=150), pytest.raises(RefreshFailedError):
        refresh.refresh(trigger=RefreshRun.Trigger.COMMAND)
    error = RefreshRun.objects.latest("pk").error
    assert "out of shared memory" in error
    assert "Raise max_locks_per_transaction" in error
    assert "disk" not in error


def test_status_counts_partitions_and_their_indexes() -> None:
    before = read_status().refresh_locks
    make_partitions([date(2026, 11, 1)])
    assert read_status().refresh_locks == before + 2 * len(RAW_TABLES)
    [(locks, sessions)] = run_sql(
        "SELECT current_setting('max_locks_per_transaction')::int,"
        " current_setting('max_connections')::int"
        " + current_setting('max_prepared_transactions')::int"
    )
    assert read_status().lock_room == locks * sessions


def warnings() -> list[Any]:
    found = run_checks(databases=["default"], tags=["database"])
    return [each for each in found if each.id in {"usage.W005", "usage.W008"}]


def test_check_warns_of_more_partitions_than_the_settings_make(
    set_today: SetToday, settings: LazySettings
) -> None:
    set_today("2026-11-20")
    settings.USAGE_PARTITION_DAYS = 1
    make_partitions(date(2026, 11, 1) + timedelta(number) for number in range(15))
    assert warnings() == []
    make_partitions([date(2026, 11, 16)])
    assert [each.id for each in warnings()] == ["usage.W005", "usage.W005"]
    assert "usage_datausagerecord has 16 partitions" in warnings()[0].msg


def test_check_warns_of_little_room_for_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lock_room.read()
    assert not found.is_short
    short = lock_room.LockRoom(found.needed, 2 * found.needed - 1, 64)
    monkeypatch.setattr(lock_room, "read", lambda: short)
    [warning] = warnings()
    assert warning.id == "usage.W008"
    assert "max_locks_per_transaction of the server (now 64)" in warning.hint
