"""The pages in a real Chromium."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
import redis
from django.conf import LazySettings
from django.contrib.auth.models import User
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    ViewportSize,
    expect,
)
from pytest_django.live_server_helper import LiveServer

from bin import processes
from tests.connections import wait_until
from tests.factories import data_record, make_subscription, refresh_totals, voice_record
from tests.processes import started
from usage.models import RAW_TABLES, Subscription
from usage.services.raw import clock
from usage.services.raw.partitions import partition_days

PASSWORD = "only-for-tests"
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}

Scheme: TypeAlias = Literal["light", "dark"]


@pytest.fixture
def open_pages(
    chromium: Browser, state: None, live_server: LiveServer
) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a signed-out window. An error in its console fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def note_error(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    def open_window(viewport: ViewportSize = DESKTOP, scheme: Scheme = "light") -> Page:
        context = chromium.new_context(
            base_url=live_server.url, viewport=viewport, color_scheme=scheme
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note_error)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def usage(state: None) -> None:
    """Store usage of two subscriptions today, refresh, and make the operator olga."""
    User.objects.create_user("olga", password=PASSWORD, is_staff=True)
    anna, bob = make_subscription("anna"), make_subscription("bob")
    at = f"{clock.today()}T00:00:00Z"
    data_record(anna, at, "1.10", 10)
    data_record(bob, at, "1000.5", 70)
    voice_record(bob, at, "3.30000001", 90)
    refresh_totals()


def sign_in(page: Page) -> None:
    page.goto("/")
    page.get_by_label("User name").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")


def without_commas(text: str) -> str:
    return text.replace(",", "")


@pytest.mark.usefixtures("usage")
def test_numbers_are_those_of_the_api(open_pages: Callable[..., Page]) -> None:
    page = open_pages()
    sign_in(page)
    found = page.request.get("/api/v1/usage/totals/").json()["results"]
    for usage_type in ("data", "voice"):
        of_type = [row for row in found if row["usage_type"] == usage_type]
        card = page.locator(f"#sum-{usage_type}")
        price = without_commas(card.locator(".price").inner_text())
        assert Decimal(price) == sum(Decimal(row["total_price"]) for row in of_type)
        for column in ("usage", "records"):
            name = "total_usage" if column == "usage" else "record_count"
            shown = without_commas(card.locator(f".{column}").inner_text())
            assert int(shown) == sum(row[name] for row in of_type)
    expect(page.locator(".drawing canvas")).to_have_count(3)
    page.get_by_text("Every day as a table").click()
    expect(page.locator("#days tbody tr")).to_have_count(2)
    expect(page.locator("#days tbody tr").first).to_contain_text("1,001.6")


@pytest.mark.usefixtures("usage")
def test_another_limit_is_another_list(open_pages: Callable[..., Page]) -> None:
    page = open_pages()
    sign_in(page)
    page.get_by_role("link", name="Over a limit").click()
    limit, names = page.get_by_label("Price limit"), page.locator("#over-limit tbody th")
    limit.fill("1")
    limit.press("Enter")
    expect(names).to_have_text(["bob", "bob", "anna"])
    limit.fill("1000")
    page.get_by_role("button", name="List").click()
    expect(names).to_have_text(["bob"])
    page.get_by_role("link", name="This month").click()
    expect(names).to_have_text(["bob"])
    page.get_by_role("link", name="bob").click()
    expect(page.locator("#sum-data .price")).to_have_text("1,000.5")


@pytest.mark.usefixtures("usage")
def test_keyboard_alone_is_enough(open_pages: Callable[..., Page]) -> None:
    page = open_pages()
    sign_in(page)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    # The fields From and To have three parts each.
    for _ in range(6):
        page.keyboard.press("Tab")
    for _ in range(5):
        if page.evaluate("document.activeElement.name") == "subscription":
            break
        page.keyboard.press("Tab")
    page.keyboard.type("anna")
    page.keyboard.press("Enter")
    expect(page.locator("#sum-data .price")).to_have_text("1.1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.usefixtures("usage")
def test_every_page_fits_a_phone(open_pages: Callable[..., Page], scheme: Scheme) -> None:
    page = open_pages(PHONE, scheme)
    sign_in(page)
    for path in ["/", "/over-limit/?price_limit=0", "/refreshes/"]:
        page.goto(path)
        too_wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert too_wide == 0, path
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == {"light": "rgb(246, 247, 249)", "dark": "rgb(17, 20, 24)"}[scheme]


@pytest.mark.usefixtures("only_default_partitions", "usage")
def test_requested_refresh_ends_and_shows_new_usage(
    open_pages: Callable[..., Page],
    broker: redis.Redis,
    settings: LazySettings,
    tmp_path: Path,
) -> None:
    number = broker.get_connection_kwargs()["db"]
    settings.REDIS_URL = f"{settings.REDIS_URL.rpartition('/')[0]}/{number}"
    page = open_pages()
    sign_in(page)
    data_record(Subscription.objects.get(external_id="anna"), f"{clock.today()}T00:00:00Z", "2.20")
    with started(processes.worker("test@%h"), broker, tmp_path / "log"):
        # A new worker makes partitions. Meanwhile a refresh would be skipped.
        wait_until(
            lambda: all(len(partition_days(table)) >= 14 for table in RAW_TABLES),
            seconds=120,
            what="the partitions a new worker makes",
        )
        page.get_by_role("button", name="Refresh now").click()
        expect(page.locator("#followed")).to_contain_text("ended: success", timeout=60_000)
    expect(page.locator("#runs tr.followed")).to_contain_text("api")
    expect(page.locator(".drawing canvas")).to_have_count(2)
    page.get_by_role("link", name="By day").click()
    expect(page.locator("#sum-data .price")).to_have_text("1,003.8")


@pytest.mark.usefixtures("usage")
def test_api_can_be_tried_out_on_its_page(open_pages: Callable[..., Page]) -> None:
    """Fails when its content policy blocks the page, or when it loads files from another server."""
    page = open_pages()
    sign_in(page)
    # This page loads large scripts.
    page.set_default_timeout(60_000)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto("/api/v1/docs/")
    page.locator("#operations-Usage-get_totals .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    response = page.locator("#operations-Usage-get_totals .live-responses-table .response").first
    expect(response).to_contain_text("200", timeout=60_000)
    expect(response).to_contain_text('"total_price": "1.1"')
    origin = page.evaluate("location.origin")
    assert all(url.startswith((origin, "data:")) for url in requested)
