"""Property 6: live totals equal a plain GROUP BY over the raw records that the reader sees.

Fails when a late key is read from the sealed table, when a key without records is shown, when open
days end today, and when the bounds leave out a partition.
"""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.connections import ask, in_thread, run_sql, second_session, wait_for_lock
from tests.factories import data_record, make_subscription, refresh_and_seal, voice_record
from usage import selectors, sql
from usage.models import LateKey, UsageState
from usage.services.raw import clock
from usage.services.raw.partitions import make_partitions

pytestmark = pytest.mark.one_server("no record comes late there")

TABLES = {
    "data": ("usage_datausagerecord", "kilobytes_used"),
    "voice": ("usage_voiceusagerecord", "seconds_used"),
}
COLUMNS = (
    "subscription_id",
    "day",
    "usage_type",
    "total_price",
    "total_usage",
    "record_count",
    "last_usage_at",
)


@pytest.fixture
def sealed(
    only_default_partitions: None, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    """Make three subscriptions with a record of both types on 2026-10-31 and the six days after it.
    Days before 2026-11-03 are sealed. The days from 2026-11-02 to 2026-11-05 have partitions."""
    settings.USAGE_OPEN_DAYS = 2
    monkeypatch.setattr(clock, "today", lambda: date(2026, 11, 4))
    make_partitions(date(2026, 11, day) for day in (2, 3, 4, 5))
    for number in (1, 2, 3):
        subscription = make_subscription(f"line {number}", id=number)
        for day in (date(2026, 10, 31) + timedelta(later) for later in range(7)):
            data_record(subscription, f"{day}T12:00:00Z", price="1.5", kilobytes=10)
            voice_record(subscription, f"{day}T23:59:59.999999Z", price="0.01", seconds=60)
    refresh_and_seal()
    assert UsageState.objects.get().sealed_before == date(2026, 11, 3)


def live(
    ids: list[int] | None = None, first: date | None = None, last: date | None = None
) -> list[tuple[Any, ...]]:
    """Return the live totals by the selector, filtered once more by the same values."""
    narrow = {"subscription_id__in": ids, "day__gte": first, "day__lte": last}
    return list(
        selectors.live_daily(subscription_ids=ids, from_date=first, to_date=last)
        .filter(**{name: value for name, value in narrow.items() if value is not None})
        .order_by("subscription_id", "day", "usage_type")
        .values_list(*COLUMNS)
    )


def plain_group_by() -> list[tuple[Any, ...]]:
    def of(usage_type: str) -> str:
        table, quantity = TABLES[usage_type]
        return (
            f"SELECT subscription_id, (usage_date AT TIME ZONE 'UTC')::date, '{usage_type}',"
            f" sum(price), sum({quantity})::bigint, count(*), max(usage_date)"
            f" FROM {table} GROUP BY 1, 2"
        )

    return run_sql(f"{of('data')} UNION ALL {of('voice')} ORDER BY 1, 2, 3")


days = st.dates(date(2026, 10, 29), date(2026, 11, 8))
keys = st.tuples(st.sampled_from(sorted(TABLES)), st.integers(1, 4), days)
writes = st.one_of(
    st.tuples(st.just("insert"), keys, st.decimals(-5, 5, places=8)),
    st.tuples(st.just("delete"), keys, st.none()),
    st.tuples(st.just("move"), keys, keys),
)


def write(kind: str, key: tuple[str, int, date], what: Any) -> None:
    usage_type, subscription_id, day = key
    table, quantity = TABLES[usage_type]
    of_key = f"subscription_id = {subscription_id} AND usage_day(usage_date) = '{day}'"
    match kind:
        case "insert":
            run_sql(
                f"INSERT INTO {table} (subscription_id, usage_date, price, {quantity})"
                " VALUES (%s, %s::date + interval '1 hour', %s, 7)",
                [subscription_id, day, what],
            )
        case "delete":
            run_sql(f"DELETE FROM {table} WHERE {of_key}")
        case "move":
            _, other, other_day = what
            run_sql(
                f"UPDATE {table} SET subscription_id = %s,"
                f" usage_date = usage_date + (%s::date - '{day}'::date) * interval '1 day',"
                f" id = gen_random_uuid() WHERE {of_key}",
                [other, other_day],
            )


@pytest.mark.usefixtures("sealed")
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    history=st.lists(writes, max_size=8),
    ids=st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True),
    first=st.none() | days,
    last=st.none() | days,
)
def test_live_totals_equal_a_plain_group_by_after_any_history(
    history: list[tuple[str, Any, Any]], ids: list[int], first: date | None, last: date | None
) -> None:
    with transaction.atomic():
        for step in history:
            write(*step)
        truth = plain_group_by()
        assert live() == truth
        assert live(ids) == [row for row in truth if row[0] in ids]
        named = [
            row
            for row in truth
            if row[0] in ids and (first or date.min) <= row[1] <= (last or date.max)
        ]
        assert live(ids, first, last) == named
        rows = selectors.live_daily(subscription_ids=ids, from_date=first, to_date=last)
        assert list(rows.order_by(*COLUMNS[:3]).values_list(*COLUMNS)) == named
        transaction.set_rollback(True)


@pytest.mark.usefixtures("sealed")
def test_late_keys_are_read_from_raw_records_and_only_where_kept() -> None:
    """The raw records of a closed day are or will be dropped, so its sealed total is final."""
    run_sql(
        "INSERT INTO usage_late_key VALUES (1, '2026-10-31', 'data'), (1, '2026-11-01', 'data')"
    )
    UsageState.objects.update(raw_kept_from=date(2026, 11, 1))
    # No trigger sees a write to the partition itself.
    run_sql("UPDATE usage_datausagerecord_default SET price = 9")
    run_sql("UPDATE usage_datausagerecord_p20261102 SET price = 9")
    for rows in (live([1], None, date(2026, 11, 2)), live()[:6]):
        assert [(day.isoformat(), kind, price) for _, day, kind, price, *_ in rows] == [
            ("2026-10-31", "data", Decimal("1.5")),
            ("2026-10-31", "voice", Decimal("0.01")),
            ("2026-11-01", "data", Decimal(9)),
            ("2026-11-01", "voice", Decimal("0.01")),
            ("2026-11-02", "data", Decimal("1.5")),
            ("2026-11-02", "voice", Decimal("0.01")),
        ]


@pytest.mark.usefixtures("sealed")
def test_key_logged_while_its_day_waits_to_be_sealed_counts_once() -> None:
    run_sql("INSERT INTO usage_late_key VALUES (1, '2026-11-03', 'data')")
    assert live() == plain_group_by()
    assert live([1, 2, 3]) == plain_group_by()


@pytest.mark.usefixtures("state")
def test_before_the_first_seal_every_day_is_open() -> None:
    subscription = make_subscription(id=1)
    data_record(subscription, "2000-01-01T00:00:00Z", price="1")
    data_record(subscription, "2099-12-31T23:59:59Z", price="2")
    assert UsageState.objects.get().sealed_before is None
    assert live([1]) == live() == plain_group_by()
    assert [day.isoformat() for _, day, *_ in live([1])] == ["2000-01-01", "2099-12-31"]
    assert LateKey.objects.count() == 0


@pytest.mark.usefixtures("db")
def test_open_days_follow_the_zone_where_midnight_comes_twice() -> None:
    """In the Azores 2026-10-25 begins at 00:00Z, and its first hour repeats at 01:00Z, which is the
    bound of the 24th. The day of a record decides, not the bound."""
    UsageState.objects.update_or_create(id=1, defaults={"time_zone": "Atlantic/Azores"})
    run_sql("SELECT set_config('usage.time_zone', 'Atlantic/Azores', true)")
    for name in ("usage_day", "usage_day_start", "usage_day_end"):
        run_sql(sql.read(name, 1))
    subscription = make_subscription(id=1)
    for kilobytes, hour in enumerate(["24T23:59:59", "25T00:00:00", "25T01:00:00"], start=1):
        data_record(subscription, f"2026-10-{hour}Z", kilobytes=kilobytes)

    def usage(first: date | None, last: date | None) -> list[tuple[int, int]]:
        rows = selectors.live_daily(subscription_ids=[1], from_date=first, to_date=last)
        return [(row.day.day, row.total_usage) for row in rows.order_by("day")]

    eve, day = date(2026, 10, 24), date(2026, 10, 25)
    assert usage(None, None) == [(24, 1), (25, 5)]
    assert usage(None, eve) == usage(eve, eve) == [(24, 1)]
    assert usage(day, None) == usage(day, day) == [(25, 5)]


@pytest.mark.usefixtures("sealed")
def test_external_ids_name_the_same_rows() -> None:
    rows = selectors.live_daily(external_ids=["line 2", "line 3", "nobody"])
    assert list(rows.order_by(*COLUMNS[:3]).values_list(*COLUMNS)) == live([2, 3])
    assert list(selectors.live_daily(external_ids=["nobody"])) == []


@pytest.mark.usefixtures("sealed")
def test_named_subscriptions_are_read_at_the_snapshot_of_the_statement() -> None:
    """Fails when the function is volatile: each of its statements would then have its own snapshot,
    and its rows would not fit together."""
    statement = """
        SELECT sum(live.record_count)::integer
        FROM (SELECT length(pg_advisory_xact_lock(7)::text) AS zero) AS waited
        CROSS JOIN LATERAL
            usage_daily_live_of(ARRAY[waited.zero + 1], '-infinity', 'infinity') AS live
    """
    with second_session(autocommit=True) as other, second_session() as reader:
        ask(other, "SELECT pg_advisory_lock(7)")
        with in_thread(lambda: ask(reader, statement)) as reading:
            wait_for_lock(other, reader.info.backend_pid)
            for day in ("2026-11-01", "2026-11-04"):
                ask(
                    other,
                    "INSERT INTO usage_datausagerecord (subscription_id, usage_date,"
                    " kilobytes_used) VALUES (1, %s, 1)",
                    [day],
                )
            ask(other, "SELECT pg_advisory_unlock(7)")
            assert reading.result() == [(14,)]
        assert ask(reader, statement) == [(16,)]


@pytest.mark.usefixtures("sealed")
def test_named_subscriptions_are_looked_up_in_partitions_of_the_requested_open_days() -> None:
    """The view opens every partition and may read a whole one. A plan made while a partition was
    empty would still read the whole partition when it is full, so the function uses keys."""
    run_sql("ANALYZE usage_datausagerecord")
    with transaction.atomic():
        before = scans()
        live([1], None, date(2026, 11, 4))
        after = scans()
    assert {name: number - before[name] for name, number in after.items()} == {
        "default by key": 0,
        "default whole": 0,
        "p20261102 by key": 0,
        "p20261102 whole": 0,
        "p20261103 by key": 1,
        "p20261103 whole": 0,
        "p20261104 by key": 1,
        "p20261104 whole": 0,
        "p20261105 by key": 0,
        "p20261105 whole": 0,
    }


def scans() -> dict[str, int]:
    """Return how often this session has read each partition of the data records."""
    return {
        f"{name.removeprefix('usage_datausagerecord_')} {way}": number
        for name, *numbers in run_sql(
            "SELECT relname, idx_scan, seq_scan FROM pg_stat_xact_user_tables"
            " WHERE relname LIKE 'usage\\_datausagerecord\\_%'"
        )
        for way, number in zip(("by key", "whole"), numbers, strict=True)
    }


@pytest.mark.usefixtures("sealed")
def test_the_plan_of_the_view_does_not_multiply_by_an_estimate_of_types() -> None:
    """Fails when the view joins usage_type, which nothing analyzes: PostgreSQL then expects
    hundreds of types and compiles the plan, which takes many seconds."""
    plan = "\n".join(line for (line,) in run_sql("EXPLAIN SELECT * FROM usage_daily_live"))
    assert " on usage_type" not in plan
