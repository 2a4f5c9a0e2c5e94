"""SQL is compiled once for queries that differ in values, and planned once a connection."""

from typing import Any

import pytest
from django.db import DataError, connection
from django.http import QueryDict
from rest_framework.test import APIClient

from tests.connections import run_sql
from tests.factories import make_subscription
from tests.given import given
from tests.usage.api.api_requests import fill_totals, results
from usage.lists import all_lists, statements
from usage.lists.statements import RequestValue, Statement
from usage.lists.usage_list import UsageList
from usage.selectors import Source


@pytest.fixture
def usage(db: None) -> None:
    for number, name in enumerate(["anna", "bob"], start=1):
        make_subscription(name, id=number)
    given("""
        data  anna 2026-11-01T10:00:00Z 1.10 10
        voice anna 2026-11-02T10:00:00Z 2.20 20
        data  bob  2026-11-03T10:00:00Z 3.30 30
    """)
    fill_totals()


def statement(
    usage_list: UsageList, query: str, source: Source = Source.DAILY, *, after: bool = False
) -> Statement:
    parameters = usage_list.filter_class(QueryDict(query)).parameters
    return usage_list.statement(parameters, source, after=after)


@pytest.mark.parametrize(
    ("usage_list", "queries"),
    [
        (
            all_lists.Totals(),
            ["subscription_id=1&month=2026-11", "subscription_id=2,3&month=2026-12&page_size=5"],
        ),
        (
            all_lists.OverLimit(),
            ["price_limit=1&usage_type=data", "price_limit=2&usage_type=voice"],
        ),
        (all_lists.Daily(), ["ordering=-day&live=false", "ordering=-day&max_staleness=5"]),
    ],
)
def test_queries_that_differ_in_values_share_a_statement(
    usage_list: UsageList, queries: list[str]
) -> None:
    first, second = queries
    assert statement(usage_list, first) is statement(usage_list, second)


def test_queries_with_other_parameters_have_their_own_statement() -> None:
    totals, daily = all_lists.Totals(), all_lists.Daily()
    record = "subscription_id=1&day=2026-11-01&usage_type="
    different = [
        statement(totals, ""),
        statement(totals, "usage_type=data"),
        statement(totals, "from_date=2026-11-01"),
        statement(totals, "to_date=2026-11-01"),
        statement(totals, "subscription_id=1"),
        statement(totals, "external_id=anna"),
        statement(totals, "", after=True),
        statement(totals, "subscription_id=1", Source.LIVE),
        statement(all_lists.OverLimit(), "price_limit=1"),
        statement(all_lists.OverLimit(), "price_limit=1", Source.PERIODS),
        statement(all_lists.OverLimit(), "price_limit=1&usage_type=data", Source.PERIODS),
        statement(daily, ""),
        statement(daily, "ordering=day"),
        statement(daily, "ordering=-day"),
        statement(all_lists.Records(), f"{record}data", Source.LIVE),
        statement(all_lists.Records(), f"{record}voice", Source.LIVE),
    ]
    assert len({each.sql for each in different}) == len(different)


def test_each_request_gets_the_rows_of_its_own_values(
    usage: None, client_with_token: APIClient
) -> None:
    def prices(query: str) -> list[str]:
        return [row["total_price"] for row in results(client_with_token, "usage/totals", query)]

    for _ in range(8):  # the server uses a generic plan after five
        assert prices("subscription_id=1&month=2026-11") == ["1.1", "2.2"]
        assert prices("subscription_id=2&month=2026-11") == ["3.3"]
        assert prices("subscription_id=1,2&month=2026-11") == ["1.1", "2.2", "3.3"]
        assert prices("subscription_id=1,2&month=2026-10") == []


def named(sql: str, *names: str) -> Statement:
    return Statement(sql, tuple(RequestValue(name) for name in names), "test")


def test_a_named_statement_returns_the_rows_of_an_unnamed_one(db: None) -> None:
    sql = "SELECT 10 %% 3 AS rest, 'abc' LIKE %s || '%%' AS begins, %s::int AS number"
    values = {"letter": "a", "number": 7}
    for name in ("", "test"):
        statement = Statement(sql, (RequestValue("letter"), RequestValue("number")), name)
        for _ in range(2):
            assert statement.fetch(values) == (["rest", "begins", "number"], [(1, True, 7)])


def test_a_connection_prepares_a_statement_once(db: None) -> None:
    def prepared() -> list[tuple[Any, ...]]:
        return run_sql(
            "SELECT statement, generic_plans + custom_plans FROM pg_prepared_statements"
            " WHERE statement LIKE %s",
            ["%of this test%"],
        )

    statement = named("SELECT %s::int AS of_this_test -- of this test", "number")
    for number in (1, 2, 3):
        assert statement.fetch({"number": number})[1] == [(number,)]
    [(text, plans)] = prepared()
    assert "SELECT $1::int" in text
    assert plans == 3


def test_a_named_statement_can_fail_and_run_again(transactional_db: None) -> None:
    statement = named("SELECT 6 / %s::int AS quotient", "divisor")
    for _ in range(2):
        with pytest.raises(DataError):
            statement.fetch({"divisor": 0})
        assert statement.fetch({"divisor": 3})[1] == [(2,)]


def test_a_new_connection_prepares_anew(transactional_db: None) -> None:
    statement = named("SELECT %s::int AS number", "number")
    assert statement.fetch({"number": 1})[1] == [(1,)]
    connection.close()
    assert statement.fetch({"number": 2})[1] == [(2,)]


def test_a_connection_prepares_so_many_statements_and_sends_the_others(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.close()
    monkeypatch.setattr(statements, "MOST_PREPARED", 2)
    for number in range(4):
        statement = named(f"SELECT %s::int AS number_{number}", "number")
        assert statement.fetch({"number": number})[1] == [(number,)]
    assert run_sql("SELECT count(*) FROM pg_prepared_statements") == [(2,)]


def test_a_column_may_change_its_type_under_a_prepared_statement(transactional_db: None) -> None:
    """A migration may change the type while the web server runs."""
    run_sql("CREATE TABLE changing (number int); INSERT INTO changing VALUES (7)")
    try:
        statement = named("SELECT number FROM changing WHERE number > %s", "least")
        for _ in range(6):
            assert statement.fetch({"least": 1})[1] == [(7,)]
        run_sql("ALTER TABLE changing ALTER number TYPE text")
        run_sql("ALTER TABLE changing ALTER number TYPE numeric USING number::numeric")
        assert statement.fetch({"least": 1})[1] == [(7,)]
    finally:
        run_sql("DROP TABLE changing")
