"""The admin: for staff alone, and never a look through all raw records."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.connections import run_sql
from tests.factories import data_record, make_subscription, refresh_totals
from tests.given import given
from tests.logins import django_as, login_in
from usage.models import RefreshRun, Subscription, UsageState

pytestmark = pytest.mark.usefixtures("state")

PAGES = [
    "/admin/",
    "/admin/usage/subscription/",
    "/admin/usage/subscription/1/change/",
    "/admin/usage/subscription/1/records/",
    "/admin/usage/refreshrun/",
]


@pytest.fixture
def staff() -> Client:
    """A browser in which a member of the staff with every right is signed in."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("staff"))
    return client


@pytest.fixture
def usage() -> None:
    """Totals of two subscriptions, A (1) and B (2)."""
    make_subscription("A", id=1)
    make_subscription("B", id=2)
    given("""
        data   A  2026-10-31T10:00:00Z  1.25  10
        data   A  2026-11-01T10:00:00Z  1.25  20
        data   A  2026-11-01T11:00:00Z  0.50  30
        voice  A  2026-11-01T10:00:00Z  2.5   60
        data   B  2026-11-01T10:00:00Z  9     90
    """)
    refresh_totals()


def text(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("path", PAGES)
def test_who_is_not_staff_is_sent_to_sign_in(usage: None, path: str) -> None:
    client = Client()
    for user in [None, get_user_model().objects.create_user("somebody")]:
        if user:
            client.force_login(user)
        response = client.get(path)
        assert response.status_code == 302
        assert "login" in response["Location"]


@pytest.mark.parametrize("path", PAGES)
def test_staff_see_every_page(usage: None, staff: Client, path: str) -> None:
    assert staff.get(path).status_code == 200


def test_list_shows_totals_over_all_days(usage: None, staff: Client) -> None:
    page = text(staff, "/admin/usage/subscription/")
    assert "3 for 60 kilobytes" in page
    assert "2.5 for 60 seconds" in page
    assert "9 for 90 kilobytes" in page


def test_more_subscriptions_take_no_more_queries(usage: None, staff: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            text(staff, "/admin/usage/subscription/")
        return len(captured)

    before = queries()
    for number, name in enumerate("CDEFGH", start=3):
        make_subscription(name, id=number)
        given(f"data  {name}  2026-11-01T10:00:00Z  1  1")
    refresh_totals()
    assert queries() == before


def test_search_is_by_whole_name_or_id(usage: None, staff: Client) -> None:
    make_subscription("1", id=3)
    path = "/admin/usage/subscription/?q="
    found = text(staff, f"{path}B")
    assert ("/2/change/" in found, "/1/change/" in found) == (True, False)
    found = text(staff, f"{path}1")
    assert "/1/change/" in found
    assert "2 subscriptions" in found
    assert "0 subscriptions" in text(staff, f"{path}%27")
    assert "0 subscriptions" in text(staff, f"{path}{'9' * 30}")


def test_subscription_shows_its_months(usage: None, staff: Client) -> None:
    page = text(staff, "/admin/usage/subscription/1/change/")
    assert "2026-11 data: 1.75 for 50 kilobytes" in page
    assert "2026-10 data: 1.25 for 10 kilobytes" in page
    assert "2026-11 voice: 2.5 for 60 seconds" in page
    make_subscription("C", id=3)
    assert "No usage." in text(staff, "/admin/usage/subscription/3/change/")


def test_only_the_owner_of_a_subscription_is_changed(usage: None, staff: Client) -> None:
    owner = get_user_model().objects.create_user("owner")
    path = "/admin/usage/subscription/2/change/"
    assert staff.post(path, {"external_id": "C", "owner": owner.pk}).status_code == 302
    subscription = Subscription.objects.get(pk=2)
    assert (subscription.external_id, subscription.owner) == ("B", owner)
    for path in ["/admin/usage/subscription/2/delete/", "/admin/usage/subscription/add/"]:
        assert staff.post(path, {"post": "yes", "external_id": "C"}).status_code == 403


def test_the_role_of_the_web_server_is_enough(usage: None, staff: Client) -> None:
    with login_in("usage_web") as login, django_as(login):
        for path in PAGES:
            assert staff.get(path).status_code == 200, path
        records = "/admin/usage/subscription/1/records/?usage_type=data&day=2026-11-01"
        assert "1.25" in text(staff, records)
        changed = staff.post("/admin/usage/subscription/2/change/", {"owner": ""})
        assert changed.status_code == 302


def test_raw_records_of_a_day_are_shown_with_every_digit(usage: None, staff: Client) -> None:
    data_record(Subscription.objects.get(pk=1), "2026-11-01T12:00:00Z", "0.00000001", 7)
    page = text(staff, "/admin/usage/subscription/1/records/?usage_type=data&day=2026-11-01")
    assert page.count("<tr>") >= 3
    assert "0.00000001" in page
    assert "2026-11-01 12:00:00" in page
    assert "2026-10-31" not in page


def raw_queries(client: Client, path: str) -> list[str]:
    """The statements of a page that read raw records."""
    with CaptureQueriesContext(connection) as captured:
        client.get(path)
    return [query["sql"] for query in captured if "usagerecord" in query["sql"]]


@pytest.mark.parametrize(
    "query", ["", "?usage_type=data", "?day=", "?day=x&usage_type=data", "?day=2026-11-01"]
)
def test_records_are_not_read_before_a_day_and_a_type_are_named(
    usage: None, staff: Client, query: str
) -> None:
    assert raw_queries(staff, f"/admin/usage/subscription/1/records/{query}") == []


@pytest.mark.parametrize("path", [path for path in PAGES if "records" not in path])
def test_no_other_page_reads_raw_records(usage: None, staff: Client, path: str) -> None:
    assert [sql for sql in raw_queries(staff, path) if " FROM " in sql] == []


def test_records_of_a_day_are_a_range_of_the_key(usage: None, staff: Client) -> None:
    [sql] = raw_queries(
        staff, "/admin/usage/subscription/1/records/?usage_type=data&day=2026-11-01"
    )
    plan = "\n".join(line for (line,) in run_sql("SET enable_seqscan = off; EXPLAIN " + sql))
    run_sql("RESET enable_seqscan")
    assert "subscription_id = 1" in plan
    assert "Index" in plan
    assert "Seq Scan" not in plan


def test_more_records_than_are_shown_are_said(
    usage: None, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usage.admin import subscriptions

    monkeypatch.setattr(subscriptions, "MOST_RECORDS", 1)
    path = "/admin/usage/subscription/1/records/?usage_type=data&day="
    assert "These are the first 1" in text(staff, f"{path}2026-11-01")
    assert "These are the first" not in text(staff, f"{path}2026-10-31")


def test_records_of_a_dropped_day_are_said_to_be_gone(usage: None, staff: Client) -> None:
    UsageState.objects.update(raw_kept_from="2026-11-05")
    path = "/admin/usage/subscription/1/records/?usage_type=data&day=2026-11-01"
    assert "are dropped" in text(staff, path)
    assert raw_queries(staff, path) == []


def test_unknown_subscription_is_404(usage: None, staff: Client) -> None:
    assert staff.get("/admin/usage/subscription/99/records/").status_code == 404


def test_staff_without_the_right_see_no_records(usage: None) -> None:
    user: Any = get_user_model().objects.create_user("clerk", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_subscription"))
    client = Client()
    client.force_login(user)
    assert client.get("/admin/usage/subscription/").status_code == 200
    assert client.get("/admin/usage/subscription/1/records/").status_code == 403
    assert client.get("/admin/usage/refreshrun/").status_code == 403


def test_runs_are_only_shown(usage: None, staff: Client) -> None:
    run = RefreshRun.objects.get()
    assert "success" in text(staff, "/admin/usage/refreshrun/")
    assert "phases" in text(staff, f"/admin/usage/refreshrun/{run.pk}/change/").lower()
    for path in ["add/", f"{run.pk}/delete/"]:
        assert staff.post(f"/admin/usage/refreshrun/{path}", {"post": "yes"}).status_code == 403
    changed = staff.post(f"/admin/usage/refreshrun/{run.pk}/change/", {"status": "failed"})
    assert changed.status_code == 403
    run.refresh_from_db()
    assert run.status == "success"


def test_raw_records_have_no_list_of_their_own(staff: Client) -> None:
    for model in ["datausagerecord", "voiceusagerecord", "dailyusage"]:
        assert staff.get(f"/admin/usage/{model}/").status_code == 404
