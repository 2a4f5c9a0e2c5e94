"""Query parameters: the API reports every fault, each with its parameter."""

from urllib.parse import quote

import pytest
from rest_framework.test import APIClient

from tests.factories import make_subscription
from tests.usage.api.api_requests import LISTS, faults, fill_totals, get, get_page, results


@pytest.fixture(autouse=True)
def totals(db: None) -> None:
    fill_totals()


def test_all_faults_are_reported_together(client_with_token: APIClient) -> None:
    query = (
        "subscription_id=0&usage_type=sms&from_date=2026-02-30&to_date=x"
        "&page_size=1001&cursor=made-up&colour=red"
    )
    assert faults(client_with_token, "usage/over-limit", query) == [
        ("colour", "unknown"),
        ("cursor", "invalid"),
        ("from_date", "invalid"),
        ("page_size", "invalid"),
        ("price_limit", "required"),
        ("subscription_id", "invalid"),
        ("to_date", "invalid"),
        ("usage_type", "invalid"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("price_limit", value)
            for value in [
                "-1",
                "-0",
                "NaN",
                "sNaN",
                "Infinity",
                "1e400",
                "1E2",
                "0x10",
                "1_000",
                "1,5",
                ".5",
                "5.",
                " 5",
                "%2B5",
                "\u0663",
                "½",
                "1" * 21,
                "0.123456789",
                "5%00",
                "9" * 5000,
            ]
        ),
        *(
            ("from_date", value)
            for value in [
                "1999-12-31",
                "2100-01-01",
                "2026-02-29",
                "2026-11-01T00:00:00",
                "20261101",
                "2026-W45-1",
                "2026-1-1",
                "01.11.2026",
                "\u0662026-11-01",
                "today",
                "0000-00-00",
            ]
        ),
        ("to_date", "infinity"),
        *(("month", value) for value in ["2026-13", "2026-00", "2026", "2026-11-01", "1999-12"]),
        *(
            ("subscription_id", value)
            for value in [
                "0",
                "-1",
                "1.0",
                "one",
                "1,,2",
                "1;2",
                "9223372036854775808",
                "\u0663",
                "1,",
            ]
        ),
        ("subscription_id", "9" * 4000),
        ("external_id", "x" * 101),
        ("external_id", "a%00b"),
        ("usage_type", "DATA"),
        ("usage_type", "data,voice"),
        *(("page_size", value) for value in ["0", "1001", "-1", "ten", "1e2", "5.0"]),
    ],
)
def test_a_value_out_of_range_is_refused(
    client_with_token: APIClient, name: str, value: str
) -> None:
    query = f"{name}={quote(value, safe='%')}" + ("" if name == "price_limit" else "&price_limit=1")
    code = "blank" if value in {"1,,2", "1,"} else "invalid"
    assert faults(client_with_token, "usage/over-limit", query) == [(name, code)]


@pytest.mark.parametrize(
    "query",
    [
        "price_limit=99999999999999999999.99999999",
        "price_limit=0&from_date=2000-01-01&to_date=2099-12-31",
        "price_limit=007&month=2099-12&page_size=1000",
        "price_limit=0&subscription_id=9223372036854775807",
        f"price_limit=0&external_id={'x' * 100}",
        "price_limit=0&external_id=%F0%9F%93%9E%25%27%22",
        "price_limit=0&external_id=a%20b,c",
        "price_limit=0&from_date=2026-11-01&to_date=2026-11-01",
        "price_limit=0&subscription_id=" + ",".join(map(str, range(1, 201))),
    ],
)
def test_a_value_at_the_bound_is_taken(client_with_token: APIClient, query: str) -> None:
    assert get_page(client_with_token, "usage/over-limit", query)["results"] == []


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_every_list_refuses_an_unknown_parameter_and_an_empty_one(
    client_with_token: APIClient, path: str, query: str
) -> None:
    wrong = f"{query}&format=xml&page=2&limit=&page_size="
    assert faults(client_with_token, path, wrong) == [
        ("format", "invalid"),
        ("limit", "unknown"),
        ("page", "unknown"),
        ("page_size", "blank"),
    ]


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("usage/over-limit", "price_limit=1&price_limit=2", "price_limit"),
        ("usage/totals", "usage_type=data&usage_type=data", "usage_type"),
        ("usage/totals", "month=2026-11&month=2026-12", "month"),
        ("usage/totals", "from_date=2026-11-01&from_date=2026-11-01", "from_date"),
        ("usage/daily", "ordering=day&ordering=-day", "ordering"),
        ("usage/daily", "page_size=1&page_size=1", "page_size"),
        ("subscriptions", "cursor=a&cursor=b", "cursor"),
        (
            "usage/records",
            "subscription_id=1&subscription_id=2&usage_type=data&day=2026-11-01",
            "subscription_id",
        ),
    ],
)
def test_a_single_parameter_given_twice_is_refused(
    client_with_token: APIClient, path: str, query: str, name: str
) -> None:
    assert faults(client_with_token, path, query) == [(name, "repeated")]


def test_records_need_one_subscription_one_type_and_one_day(client_with_token: APIClient) -> None:
    assert faults(client_with_token, "usage/records", "") == [
        ("day", "required"),
        ("subscription_id", "required"),
        ("usage_type", "required"),
    ]
    query = "subscription_id=1,2&usage_type=data&day=2026-11-01&from_date=2026-11-01&month=2026-11"
    assert faults(client_with_token, "usage/records", query) == [
        ("from_date", "unknown"),
        ("month", "unknown"),
        ("subscription_id", "invalid"),
    ]


def test_reversed_days_are_refused(client_with_token: APIClient) -> None:
    query = "from_date=2026-11-02&to_date=2026-11-01"
    assert faults(client_with_token, "usage/totals", query) == [("from_date", "invalid")]
    assert (
        "After to_date, which is 2026-11-01"
        in get(client_with_token, "usage/totals", query).json()["errors"][0]["detail"]
    )


@pytest.mark.parametrize("other", ["from_date=2026-11-01", "to_date=2026-11-30", "to_date="])
def test_a_month_excludes_other_days(client_with_token: APIClient, other: str) -> None:
    found = faults(client_with_token, "usage/daily", f"month=2026-11&{other}")
    assert ("month", "invalid") in found


@pytest.mark.parametrize(
    ("month", "last"),
    [("2026-11", "2026-11-30"), ("2024-02", "2024-02-29"), ("2100-01", None)],
)
def test_a_month_is_short_for_its_days(
    client_with_token: APIClient, month: str, last: str | None
) -> None:
    if last is None:
        assert faults(client_with_token, "usage/daily", f"month={month}") == [("month", "invalid")]
    else:
        found = get_page(client_with_token, "usage/daily", f"month={month}")
        assert (found["from_date"], found["to_date"]) == (f"{month}-01", last)


def test_more_than_200_subscriptions_are_refused(client_with_token: APIClient) -> None:
    numbers = [str(number) for number in range(1, 202)]
    assert faults(client_with_token, "usage/totals", f"subscription_id={','.join(numbers)}") == [
        ("subscription_id", "too_many")
    ]
    same = ",".join(["1"] * 201)
    assert faults(client_with_token, "subscriptions", f"subscription_id={same}") == [
        ("subscription_id", "too_many")
    ]
    repeated = "&".join(f"external_id={number}" for number in numbers)
    assert faults(client_with_token, "subscriptions", repeated) == [("external_id", "too_many")]
    both = f"subscription_id={','.join(numbers[:150])}&external_id={','.join(numbers[:51])}"
    assert faults(client_with_token, "usage/totals", both) == [
        ("external_id", "too_many"),
        ("subscription_id", "too_many"),
    ]


def test_each_fault_says_what_is_allowed(client_with_token: APIClient) -> None:
    body = get(client_with_token, "usage/daily", "ordering=name&colour=red").json()
    assert {error["attr"]: error["detail"] for error in body["errors"]} == {
        "ordering": "'name' is not allowed. Give one of subscription_id, day, -day, total_price, "
        "-total_price.",
        "colour": "Unknown parameter. Allowed are cursor, external_id, format, from_date, "
        "live, max_staleness, month, ordering, page_size, subscription_id, to_date, usage_type.",
    }


def test_a_fault_quotes_little_of_a_long_value(client_with_token: APIClient) -> None:
    body = get(client_with_token, "usage/daily", f"ordering={'x' * 4000}&{'y' * 4000}=1").content
    assert len(body) < 1000


@pytest.mark.parametrize(
    "path", ["usage/totals", "usage/daily", "usage/over-limit", "subscriptions"]
)
@pytest.mark.parametrize("value", ["+33612345678", "%2033612345678", "a,+33", "33612345678+"])
def test_a_plus_that_arrives_as_a_blank_is_refused_with_a_hint(
    client_with_token: APIClient, path: str, value: str
) -> None:
    """Fails when a phone number with an unescaped + gets an empty list."""
    fill_totals()
    response = get(client_with_token, path, f"{LISTS[path]}&external_id={value}".lstrip("&"))
    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert (error["attr"], error["code"]) == ("external_id", "invalid")
    assert "In an address a + is a blank: write %2B for a +." in error["detail"]


@pytest.mark.parametrize(
    "query", ["price_limit=+5", "month=+2026-11", "subscription_id=+1", "page_size=+5"]
)
def test_a_plus_before_any_value_is_refused_with_a_hint(
    client_with_token: APIClient, query: str
) -> None:
    response = get(client_with_token, "usage/over-limit", query)
    name = query.partition("=")[0]
    [detail] = [each["detail"] for each in response.json()["errors"] if each["attr"] == name]
    assert "write %2B" in detail


def test_an_escaped_plus_and_a_blank_within_are_part_of_a_name(
    client_with_token: APIClient,
) -> None:
    make_subscription("+33612345678", id=1)
    make_subscription("anna bob", id=2)
    fill_totals()
    for query, number in (("%2B33612345678", 1), ("anna+bob", 2), ("anna%20bob", 2)):
        found = results(client_with_token, "subscriptions", f"external_id={query}")
        assert [row["subscription_id"] for row in found] == [number]
