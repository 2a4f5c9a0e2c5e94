"""Partitions are made in advance, while writers go on, and take the records of their day."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from threading import Event
from typing import Any

import pytest
from django.db import DatabaseError, connection

from tests.connections import ask, in_thread, run_sql, second_session
from tests.exact import plain_totals, totals_of
from tests.factories import data_record, make_subscription, refresh_and_seal, voice_record
from tests.given import expect, given
from usage import sql
from usage.errors import RefreshRunningError
from usage.models import RAW_TABLES
from usage.services.raw import clock, locks
from usage.services.raw.locks import retry_locked
from usage.services.raw.partitions import (
    Leaf,
    day_partitions,
    maintain_partitions,
    make_partitions,
    partition_days,
)
from usage.services.totals.retention import prune
from usage.services.totals.status import read_status

pytestmark = pytest.mark.usefixtures("only_default_partitions")

DAY = date(2026, 11, 2)


def leaves_of_records(table: str) -> list[tuple[str, str]]:
    return run_sql(
        f"SELECT usage_date::text, tableoid::regclass::text FROM {table} ORDER BY usage_date"
    )


def bounds(table: str) -> dict[str, str]:
    """Return the bounds of each partition, without the default partition."""
    return dict(
        run_sql(
            "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class"
            " INNER JOIN pg_inherits ON inhrelid = oid WHERE inhparent = %s::regclass"
            " AND relname NOT LIKE '%%default'",
            [table],
        )
    )


@contextmanager
def days_cut_in(zone: str) -> Iterator[None]:
    """Replace the functions that cut days by those of another zone inside the block."""
    for chosen in [zone, "UTC"]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('usage.time_zone', %s, false)", [chosen])
            for name in ["usage_day", "usage_day_start", "usage_day_end"]:
                cursor.execute(sql.read(name, 1))
        if chosen == zone:
            yield


def test_partitions_reach_from_today_to_fourteen_days_ahead() -> None:
    [(today,)] = run_sql("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    made = maintain_partitions()
    assert made == [today + timedelta(days=ahead) for ahead in range(15)]
    for table in RAW_TABLES:
        assert sorted(bounds(table)) == [f"{table}_p{day:%Y%m%d}" for day in made]


def test_next_day_adds_the_one_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "today", lambda: date(2028, 2, 20))
    assert maintain_partitions()[-1] == date(2028, 3, 5)
    assert maintain_partitions() == []
    monkeypatch.setattr(clock, "today", lambda: date(2028, 2, 21))
    assert maintain_partitions() == [date(2028, 3, 6)]


@pytest.mark.one_server("records lie in shards of a partition")
def test_records_land_in_the_partition_of_their_day() -> None:
    make_partitions([DAY])
    subscription = make_subscription("A")
    for at in ["2026-11-01T23:59:59.999999Z", "2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"]:
        data_record(subscription, at, "1", 1)
    voice_record(subscription, "2026-11-02T23:59:59.999999Z", "1", 1)
    assert leaves_of_records("usage_datausagerecord") == [
        ("2026-11-01 23:59:59.999999+00", "usage_datausagerecord_default"),
        ("2026-11-02 00:00:00+00", "usage_datausagerecord_p20261102"),
        ("2026-11-03 00:00:00+00", "usage_datausagerecord_default"),
    ]
    assert leaves_of_records("usage_voiceusagerecord") == [
        ("2026-11-02 23:59:59.999999+00", "usage_voiceusagerecord_p20261102")
    ]
    expect("""
        A  2026-11-01  data   1  1  1  2026-11-01T23:59:59.999999Z
        A  2026-11-02  data   1  1  1  2026-11-02T00:00:00Z
        A  2026-11-02  voice  1  1  1  2026-11-02T23:59:59.999999Z
        A  2026-11-03  data   1  1  1  2026-11-03T00:00:00Z
    """)


def test_partition_refuses_what_its_parent_refuses() -> None:
    make_partitions([DAY])
    for table in RAW_TABLES:
        constraints = (
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass"
            " ORDER BY 1"
        )
        leaf = f"{table}_p20261102"
        default = [
            text.removesuffix(" NOT VALID")
            for (text,) in run_sql(constraints, [f"{table}_default"])
        ]
        assert [text for (text,) in run_sql(constraints, [leaf])] == default
        assert len(default) >= 5


@pytest.mark.one_server("records lie in shards of a partition")
def test_day_with_a_record_in_the_default_partition_stays_there() -> None:
    """Records never move. The other usage type has no record there and gets its partition."""
    given("data  A  2026-11-02T10:00:00Z  1  10")
    assert make_partitions([DAY, DAY + timedelta(days=1)]) == [DAY, DAY + timedelta(days=1)]
    assert sorted(bounds("usage_datausagerecord")) == ["usage_datausagerecord_p20261103"]
    assert sorted(bounds("usage_voiceusagerecord")) == [
        "usage_voiceusagerecord_p20261102",
        "usage_voiceusagerecord_p20261103",
    ]
    given("data  A  2026-11-02T11:00:00Z  1  10")
    assert {leaf for _, leaf in leaves_of_records("usage_datausagerecord")} == {
        "usage_datausagerecord_default"
    }
    expect("A  2026-11-02  data  2  20  2  2026-11-02T11:00:00Z")


def test_a_partition_that_only_one_table_lacks_is_made() -> None:
    make_partitions([DAY])
    run_sql("DROP TABLE usage_voiceusagerecord_p20261102")
    assert make_partitions([DAY]) == [DAY]
    assert make_partitions([DAY]) == []


def test_maintenance_is_skipped_during_a_refresh() -> None:
    with second_session() as session:
        ask(session, "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(RefreshRunningError, match="try again"):
            make_partitions([DAY])
        assert bounds("usage_datausagerecord") == {}
    assert make_partitions([DAY]) == [DAY]


@pytest.mark.one_server("a partition is made on every server, which takes its time")
def test_writer_of_another_partition_delays_nothing() -> None:
    make_partitions([DAY])
    insert = (
        "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
        " VALUES (1, %s, 1)"
    )
    with second_session() as writer:
        ask(writer, insert, ["2026-11-02 10:00+00"])
        began = time.monotonic()
        assert make_partitions([DAY + timedelta(days=1)]) == [DAY + timedelta(days=1)]
        assert time.monotonic() - began < 3
        ask(writer, insert, ["2026-11-02 11:00+00"])
        writer.commit()
    assert len(leaves_of_records("usage_datausagerecord")) == 2


def test_busy_default_partition_is_left_for_the_next_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A writer never waits longer than the lock timeout."""
    monkeypatch.setattr(locks, "TRIES", 2)
    with second_session() as writer:
        ask(
            writer,
            "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
            " VALUES (1, '2026-11-01 10:00+00', 1)",
        )
        assert make_partitions([DAY]) == [DAY]  # only voice got one
    assert bounds("usage_datausagerecord") == {}
    assert "No partition of usage_datausagerecord was made for 2026-11-02" in caplog.text
    assert make_partitions([DAY]) == [DAY]


def test_partitions_end_where_the_days_of_the_zone_end() -> None:
    with days_cut_in("Europe/London"):
        make_partitions([date(2026, 10, 24), date(2026, 10, 25)])
    assert bounds("usage_voiceusagerecord") == {
        "usage_voiceusagerecord_p20261024": (
            "FOR VALUES FROM ('2026-10-23 23:00:00+00') TO ('2026-10-24 23:00:00+00')"
        ),
        "usage_voiceusagerecord_p20261025": (
            "FOR VALUES FROM ('2026-10-24 23:00:00+00') TO ('2026-10-26 00:00:00+00')"
        ),
    }


def test_day_that_a_zone_skipped_gets_no_partition() -> None:
    with days_cut_in("Pacific/Apia"):
        made = make_partitions(date(2011, 12, day) for day in [29, 30, 31])
    assert made == [date(2011, 12, 29), date(2011, 12, 31)]


@pytest.mark.parametrize(
    "how",
    [
        lambda: make_partitions([DAY]),
        lambda: retry_locked(lock_a_table),
    ],
)
def test_a_frozen_worker_loses_its_lock(
    how: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a worker that freezes during the change keeps its lock until somebody ends it."""
    monkeypatch.setattr(locks, "IDLE_SECONDS", 1)
    make_subscription(id=1)
    locked, go_on = Event(), Event()

    def freeze_after_lock(execute: Callable[..., Any], statement: Any, *arguments: Any) -> Any:
        result = execute(statement, *arguments)
        if "ACCESS EXCLUSIVE" in str(statement):
            locked.set()
            assert go_on.wait(30)
        return result

    def work() -> None:
        with connection.execute_wrapper(freeze_after_lock):
            how()

    with in_thread(work) as frozen, second_session(autocommit=True) as writer:
        assert locked.wait(10)
        ask(writer, "SET lock_timeout = '20s'")
        ask(
            writer,
            "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
            " VALUES (1, %s, 1)",
            [DAY],
        )
        go_on.set()
        with pytest.raises(DatabaseError):
            frozen.result()
    assert partition_days("usage_datausagerecord") == []


def lock_a_table() -> None:
    run_sql("LOCK TABLE usage_datausagerecord_default IN ACCESS EXCLUSIVE MODE")


@pytest.mark.one_server("records lie in shards of a partition")
def test_partitions_in_another_schema_are_read_sealed_and_dropped(
    set_today: Callable[[str], None],
) -> None:
    """A login with another search_path can make them, even with the name of one of ours."""
    run_sql("CREATE SCHEMA elsewhere")
    try:
        for day in (1, 2):
            make_partitions([date(2026, 11, day)])
        run_sql("ALTER TABLE usage_datausagerecord_p20261101 SET SCHEMA elsewhere")
        run_sql("ALTER TABLE usage_voiceusagerecord_default SET SCHEMA elsewhere")
        run_sql("CREATE TABLE usage_datausagerecord_p20261101 (decoy int)")
        subscription = make_subscription("A", id=1)
        data_record(subscription, "2026-11-01T10:00:00Z", "1", 1)
        voice_record(subscription, "2026-10-25T10:00:00Z", "1", 1)
        before = plain_totals()
        set_today("2026-11-20")
        refresh_and_seal()
        assert read_status().partitions["usage_voiceusagerecord"]["default_bytes"] > 0
        report = prune()
        assert report.partitions_dropped == [
            "usage_datausagerecord_p20261101",
            "usage_datausagerecord_p20261102",
            "usage_voiceusagerecord_p20261101",
            "usage_voiceusagerecord_p20261102",
        ]
        assert report.strays_deleted == 1
        assert run_sql(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'elsewhere'::regnamespace"
            " AND relname LIKE '%p20261101'"
        ) == [(0,)]
        assert run_sql("SELECT to_regclass('public.usage_datausagerecord_p20261101') IS NULL") == [
            (False,)
        ]
        assert totals_of("usage_daily") == before
    finally:
        run_sql("DROP TABLE public.usage_datausagerecord_p20261101")
        run_sql("ALTER TABLE elsewhere.usage_voiceusagerecord_default SET SCHEMA public")
        run_sql("DROP SCHEMA elsewhere")


def test_a_partition_lies_in_the_schema_of_its_parent() -> None:
    run_sql("CREATE SCHEMA elsewhere")
    try:
        run_sql("SET search_path = elsewhere, public")
        make_partitions([DAY])
        assert day_partitions("usage_datausagerecord") == {
            DAY: Leaf("public", "usage_datausagerecord_p20261102")
        }
    finally:
        run_sql("RESET search_path")
        run_sql("DROP SCHEMA elsewhere")
