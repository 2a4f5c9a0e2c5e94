"""The page of who reached a limit: the lines of the API's CSV, a page at a time."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.connections import run_sql
from tests.factories import make_subscription
from tests.given import given
from tests.usage.api.api_requests import fill_totals
from tests.usage.dashboard import pages
from usage.models import UsageState


def listed(client: Client, query: str) -> list[list[str]]:
    return pages.rows(client, f"/over-limit/?{query}", "over-limit")


@pytest.mark.parametrize(
    "days",
    [
        "",
        "&from_date=2026-11-01&to_date=2026-11-30",
        "&from_date=2026-11-01&to_date=2026-11-03",
        "&from_date=2026-11-03&to_date=2026-11-03",
        "&from_date=2026-10-01&to_date=2026-10-31",
    ],
)
@pytest.mark.parametrize("limit", ["0", "3.3", "1000.5"])
@pytest.mark.parametrize("usage_type", ["", "&usage_type=voice"])
@pytest.mark.usefixtures("usage")
def test_list_is_that_of_the_api(operator: Client, days: str, limit: str, usage_type: str) -> None:
    query = f"price_limit={limit}{days}{usage_type}"
    response = operator.get(f"/api/v1/usage/over-limit/?{query}&format=csv")
    names = {"1": "anna", "2": "bob"}
    lines = [line.split(",") for line in b"".join(response).decode().splitlines()[1:]]
    assert listed(operator, query) == [
        [names[subscription_id], usage_type.title(), price, exceeded_by]
        for subscription_id, usage_type, price, exceeded_by in lines
    ]


@pytest.mark.usefixtures("usage")
def test_list_has_who_reached_the_limit_exactly(operator: Client) -> None:
    assert listed(operator, "price_limit=3.30000001") == [
        ["bob", "Data", "1000.5", "997.19999999"],
        ["bob", "Voice", "3.30000001", "0"],
    ]
    assert listed(operator, "price_limit=3.30000002") == [
        ["bob", "Data", "1000.5", "997.19999998"],
    ]


@pytest.mark.usefixtures("usage")
def test_totals_of_periods_that_are_not_filled_yet_are_not_read(operator: Client) -> None:
    UsageState.objects.update(open_digest=None)
    run_sql("DELETE FROM usage_period_total")
    assert listed(operator, "price_limit=1000") == [["bob", "Data", "1000.5", "0.5"]]


@pytest.mark.usefixtures("usage")
def test_customer_sees_the_subscriptions_he_owns(customer: User) -> None:
    carl = Client()
    carl.force_login(customer)
    for days in ["", "&from_date=2026-11-01&to_date=2026-11-03"]:
        assert listed(carl, f"price_limit=3{days}") == [
            ["anna", "Data", "3.3", "0.3"],
        ]


@pytest.mark.parametrize(
    "days",
    ["", "&from_date=2026-11-01&to_date=2026-11-30", "&from_date=2026-11-01&to_date=2026-11-01"],
)
@pytest.mark.django_db
def test_pages_hold_everybody_once(
    operator: Client, today: Callable[[str], None], days: str
) -> None:
    today("2026-11-04")
    for number in range(1, 121):
        name = f"s{number}"
        make_subscription(name, id=number)
        # Thousands with the same price must not be lost or doubled between pages.
        given(f"data {name} 2026-11-01T10:00:00Z {5 if number <= 110 else number} 1")
    fill_totals()
    url, seen, sizes = f"/over-limit/?price_limit=5{days}", [], []
    while url:
        names = [row[0] for row in pages.rows(operator, url, "over-limit")]
        seen += names
        sizes.append(len(names))
        response = operator.get(url)
        following = response.context["next"]
        url = f"/over-limit/{following}" if following else ""
    assert sizes == [50, 50, 20]
    highest = [f"s{number}" for number in range(120, 110, -1)]
    assert seen == [*highest, *(f"s{number}" for number in range(1, 111))]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("price_limit=-1", "greater than or equal to 0"),
        ("price_limit=much", "Enter a number."),
        ("price_limit=1&from_date=2026-11-01", "Give both days, or none for all days."),
        ("price_limit=1&from_date=2026-11-02&to_date=2026-11-01", "This is after 2026-11-01"),
        ("price_limit=1&from_date=2026-01-01&to_date=2026-11-01", "These are 305 days"),
        ("price_limit=1&after_price=1e999&after_subscription=1", "no more than 60 digits"),
    ],
)
@pytest.mark.usefixtures("usage")
def test_invalid_value_is_reported_at_its_field(operator: Client, query: str, message: str) -> None:
    assert message in pages.text(operator, f"/over-limit/?{query}", status=400)


@pytest.mark.usefixtures("usage")
def test_page_without_a_limit_asks_for_one(operator: Client) -> None:
    assert "Type a price in USD" in pages.text(operator, "/over-limit/")
    assert "Type a price in USD" in pages.text(operator, "/over-limit/?price_limit=")


@pytest.mark.usefixtures("usage")
def test_nobody_over_the_limit_says_what_to_try(operator: Client) -> None:
    page = pages.text(operator, "/over-limit/?price_limit=2000")
    assert "Nobody reached 2,000 USD Try a lower limit or other days." in page
