"""The snapshot of a refresh, and the rows that it rewrites: properties 2, 5, 9 and 10."""

import threading
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection
from psycopg2.sql import Composable

from tests.connections import ask, in_thread, run_sql, second_session
from tests.factories import refresh_totals
from tests.given import expect, given
from tests.refresh_steps import after
from usage.models import RefreshRun, UsageState
from usage.services.steps import Step

pytestmark = pytest.mark.usefixtures("state")

INSERT = (
    "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
    " VALUES (1, '2026-11-01 12:00+00', %s, 0)"
)


# Doubled for each statement, it identifies each of up to 66 statements in a sum.
SMALLEST_PRICE = Decimal("0.00000001")


class CommitBeforeEachStatement:
    """A wrapper that commits a record before every statement of a refresh; the price of the record
    identifies the statement."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.statements: list[str] = []
        self.committed_by: list[datetime] = []

    def __call__(self, execute: Callable[..., Any], statement: str | Composable, *rest: Any) -> Any:
        ask(self.session, INSERT, [2 ** len(self.statements) * SMALLEST_PRICE])
        if isinstance(statement, Composable):
            self.statements.append(statement.as_string(self.session))
        else:
            self.statements.append(statement)
        self.committed_by.append(ask(self.session, "SELECT clock_timestamp()")[0][0])
        return execute(statement, *rest)

    def are_in_the_totals(self) -> list[bool]:
        [(price,)] = run_sql("SELECT total_price FROM usage_daily")
        total = int(price / SMALLEST_PRICE)
        return [bool(total >> place & 1) for place in range(len(self.statements))]


def refresh_among_commits() -> tuple[RefreshRun, CommitBeforeEachStatement]:
    with second_session(autocommit=True) as session:
        commits = CommitBeforeEachStatement(session)
        with connection.execute_wrapper(commits):
            run = refresh_totals()
    return run, commits


def test_record_committed_by_as_of_is_in_the_totals() -> None:
    """Property 5. Fails when as_of is read by a later query than the one that takes the snapshot,
    for example by Now() in the UPDATE that stores it."""
    run, commits = refresh_among_commits()
    assert run.as_of is not None
    assert run.started_at <= run.as_of
    assert UsageState.objects.get().as_of == run.as_of
    included = commits.are_in_the_totals()
    early = [committed_by <= run.as_of for committed_by in commits.committed_by]
    assert any(early)
    assert not all(early)
    assert [is_in for is_in, is_early in zip(included, early, strict=True) if is_early] == (
        [True] * sum(early)
    )


@pytest.mark.one_server("each server has a snapshot of its own")
def test_refresh_reads_everything_in_one_snapshot() -> None:
    """Property 2. Fails when the transaction is READ COMMITTED: the view then has records that were
    committed after the first query. The locks are taken before the first query."""
    _, commits = refresh_among_commits()
    begin = next(
        place
        for place, statement in enumerate(commits.statements)
        if statement.startswith("SET TRANSACTION")
    )
    first_query = next(
        place
        for place, statement in enumerate(commits.statements)
        if place > begin and statement.startswith("SELECT") and "usage_state" in statement
    )
    assert [
        place
        for place, statement in enumerate(commits.statements)
        if statement.startswith("LOCK TABLE") and place > first_query
    ] == []
    assert commits.are_in_the_totals() == [
        place <= first_query for place in range(len(commits.statements))
    ]


def test_no_refresh_among_busy_writers_misses_a_record_older_than_as_of() -> None:
    """Property 5, with writers that never wait."""
    stop = threading.Event()

    def write(first_number: int) -> Callable[[], list[tuple[int, datetime]]]:
        def insert_until_stopped() -> list[tuple[int, datetime]]:
            written = []
            with second_session(autocommit=True) as session:
                number = first_number
                while not stop.is_set():
                    ask(
                        session,
                        "INSERT INTO usage_datausagerecord"
                        " (subscription_id, usage_date, kilobytes_used)"
                        " VALUES (%s, '2026-11-01 12:00+00', 0)",
                        [number],
                    )
                    written.append((number, ask(session, "SELECT clock_timestamp()")[0][0]))
                    number += 2
            return written

        return insert_until_stopped

    shown: list[tuple[datetime, set[int]]] = []
    with in_thread(write(1)) as odd, in_thread(write(2)) as even:
        try:
            for _ in range(15):
                run = refresh_totals()
                assert run.as_of is not None
                numbers = run_sql("SELECT subscription_id FROM usage_daily")
                shown.append((run.as_of, {number for (number,) in numbers}))
        finally:
            stop.set()
        written = odd.result(10) + even.result(10)
    assert len(written) > 50
    for as_of, shown_numbers in shown:
        due = {number for number, committed_by in written if committed_by <= as_of}
        assert due <= shown_numbers


def test_first_fill_is_plain_and_later_ones_are_concurrent() -> None:
    """Property 9. Fails when every refresh is concurrent (then the first one fails) or every
    refresh is plain (then the file of the view changes each time)."""
    given("data  A  2026-11-01T10:00:00Z  1  10")
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open WITH NO DATA")
    with pytest.raises(DatabaseError, match="has not been populated"):
        run_sql("SELECT FROM usage_daily")
    expect("A  2026-11-01  data  1  10  1  2026-11-01T10:00:00Z")
    file_of_view = "SELECT pg_relation_filenode('usage_daily_open')"
    filled = run_sql(file_of_view)
    given("data  A  2026-11-01T11:00:00Z  1  10")
    expect("A  2026-11-01  data  2  20  2  2026-11-01T11:00:00Z")
    assert run_sql(file_of_view) == filled


def test_only_rows_whose_totals_changed_are_written() -> None:
    """Property 10. Fails when the view has a volatile column, such as now()."""
    given("""
        data   A  2026-11-01T10:00:00Z  1  10
        data   B  2026-11-01T10:00:00Z  2  20
        voice  B  2026-11-01T10:00:00Z  4  40
    """)
    refresh_totals()
    versions = "SELECT usage_type, total_price, xmin::text FROM usage_daily_open ORDER BY 2"
    first = run_sql(versions)
    refresh_totals()
    assert run_sql(versions) == first
    given("data  B  2026-11-01T09:00:00Z  1  0")
    refresh_totals()
    second = run_sql(versions)
    assert [row[:2] for row in second] == [("data", 1), ("data", 3), ("voice", 4)]
    assert [new[2] == old[2] for new, old in zip(second, first, strict=True)] == [
        True,
        False,
        True,
    ]


def test_changed_rows_carry_the_id_of_the_transaction() -> None:
    """Period totals are updated from these rows only. Fails when the view is refreshed inside a
    savepoint."""
    given("data  A  2026-11-01T10:00:00Z  1  10")
    refresh_totals()
    given("data  B  2026-11-01T10:00:00Z  2  20")
    changed: list[Any] = []

    def look() -> None:
        changed.extend(
            run_sql(
                "SELECT total_price FROM usage_daily_open WHERE xmin = pg_current_xact_id()::xid"
            )
        )

    with after(Step.VIEW_REFRESHED, look):
        refresh_totals()
    assert changed == [(2,)]
