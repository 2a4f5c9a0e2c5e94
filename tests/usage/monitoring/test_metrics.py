"""The metrics for Prometheus, and the token that reading them needs."""

from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone

from tests.connections import run_sql
from tests.factories import refresh_totals
from tests.given import given
from tests.logins import django_as, login_in
from tests.silent import closed_port
from tests.usage.monitoring.scraping import TOKEN, scrape, value
from usage.errors import RefreshFailedError
from usage.models import RefreshRun, UsageState
from usage.services.totals.pause import pause
from usage.services.totals.refresh import refresh


@pytest.fixture(autouse=True)
def token(settings: LazySettings) -> None:
    settings.USAGE_METRICS_TOKEN = TOKEN


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer x", f"Token {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff", TOKEN]
)
def test_without_the_token_there_are_no_metrics(sent: str) -> None:
    response = Client().get("/metrics", headers={"Authorization": sent})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert b"usage_" not in response.content


@pytest.mark.parametrize("sent", ["bearer {}", "BEARER {}", "Bearer  {}", " Bearer\t{} "])
def test_blanks_and_capitals_of_the_scheme_make_no_difference(state: None, sent: str) -> None:
    response = Client().get("/metrics", headers={"Authorization": sent.format(TOKEN)})
    assert response.status_code == 200


@pytest.mark.parametrize("sent", ["Bearer ", "Bearer None", "Bearer", ""])
def test_nobody_may_read_while_there_is_no_token(settings: LazySettings, sent: str) -> None:
    settings.USAGE_METRICS_TOKEN = None
    assert Client().get("/metrics", headers={"Authorization": sent}).status_code == 401


def test_runs_and_rows_are_those_of_the_refreshes(state: None) -> None:
    given("""
        data   A  2026-11-01T10:00:00Z  1  10
        voice  A  2026-11-01T10:00:00Z  1  10
    """)
    refresh_totals()
    given("data  A  2026-11-01T11:00:00Z  1  10")
    refresh_totals()
    found = scrape()
    assert value(found, "usage_database_up") == 1
    assert value(found, "usage_totals_populated") == 1
    assert value(found, "usage_open_rows") == 2
    assert value(found, "usage_refresh_rows_changed_total") == 3
    assert value(found, "usage_refresh_runs_total", status="success") == 2
    assert value(found, "usage_refresh_runs_total", status="failed") == 0
    for phase in ["lock", "view", "commit", "vacuum"]:
        last = value(found, "usage_refresh_last_phase_seconds", phase=phase)
        assert 0 <= last <= value(found, "usage_refresh_phase_seconds_total", phase=phase)


def test_age_is_that_of_the_totals(state: None) -> None:
    UsageState.objects.update(as_of=Now() - timedelta(hours=1))
    found = scrape()
    assert 3600 <= value(found, "usage_totals_age_seconds") < 3660
    assert value(found, "usage_totals_max_age_seconds") == 180


def test_failures_skips_and_the_pause_are_counted(state: None) -> None:
    zone = UsageState.objects.get().time_zone
    UsageState.objects.update(time_zone="Europe/London")
    with pytest.raises(RefreshFailedError):
        refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    UsageState.objects.update(time_zone=zone)
    assert value(scrape(), "usage_refreshes_paused") == 0
    pause()
    refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    found = scrape()
    assert value(found, "usage_refreshes_paused") == 1
    assert value(found, "usage_refresh_runs_total", status="failed") == 1
    assert value(found, "usage_refresh_runs_total", status="skipped") == 2
    assert value(found, "usage_refresh_runs_total", status="success") == 0
    assert ("usage_refresh_runs_total", (("status", "queued"),)) not in found


def test_counts_stay_when_old_runs_are_deleted(state: None) -> None:
    refresh_totals()
    RefreshRun.objects.all().delete()
    assert value(scrape(), "usage_refresh_runs_total", status="success") == 1


def test_a_lost_run_is_a_failure_once(state: None) -> None:
    RefreshRun.objects.create(
        trigger=RefreshRun.Trigger.SCHEDULE, started_at=timezone.now() - timedelta(minutes=2)
    )
    refresh_totals()
    refresh_totals()
    assert value(scrape(), "usage_refresh_runs_total", status="failed") == 1


def test_delay_is_from_the_previous_as_of_to_the_end_of_the_run(state: None) -> None:
    """The run takes a second and comes 100 seconds after the previous one. A record that was
    committed just after the previous as_of waited for more than 90 and less than 120 seconds."""
    refresh_totals()
    assert value(scrape(), "usage_commit_to_visible_seconds_count") == 0
    RefreshRun.objects.update(as_of=Now() - timedelta(seconds=100))
    refresh_totals()
    found = scrape()
    bucket = "usage_commit_to_visible_seconds_bucket"
    assert value(found, bucket, le="90") == 0
    assert value(found, bucket, le="120") == 1
    assert value(found, bucket, le="+Inf") == 1
    assert value(found, "usage_commit_to_visible_seconds_count") == 1
    assert 100 <= value(found, "usage_commit_to_visible_seconds_sum") < 120


def test_a_skipped_run_has_no_delay(state: None) -> None:
    refresh_totals()
    pause()
    refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    assert value(scrape(), "usage_commit_to_visible_seconds_count") == 0


def test_late_keys_and_days_to_seal_are_those_that_wait(state: None) -> None:
    run_sql("INSERT INTO usage_late_key VALUES (1, '2026-11-01', 'data')")
    UsageState.objects.update(sealed_before="2026-11-01", fence_day="2026-11-03", fence=1)
    found = scrape()
    assert value(found, "usage_late_keys") == 1
    assert value(found, "usage_days_to_seal") == 2
    UsageState.objects.update(sealed_before="2026-11-03")
    assert value(scrape(), "usage_days_to_seal") == 0


def test_sizes_are_those_of_the_server(state: None) -> None:
    found = scrape()
    [(size,)] = run_sql("SELECT pg_total_relation_size('usage_daily_sealed')")
    assert value(found, "usage_relation_bytes", relation="usage_daily_sealed") == size
    assert value(found, "usage_database_bytes") > size
    assert value(found, "usage_partitions_missing", relation="usage_datausagerecord") >= 0


def test_without_a_database_the_requests_are_still_counted(
    state: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client().get("/health/live")
    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        patched.setitem(connection.settings_dict, "PORT", str(closed_port()))
        found = scrape()
    assert value(found, "usage_database_up") == 0
    assert not any(name == "usage_totals_age_seconds" for name, _ in found)
    endpoint = {"endpoint": "health/live", "method": "GET", "status": "200"}
    assert value(found, "usage_http_requests_total", **endpoint) >= 1


def test_role_of_the_web_server_may_read_all_of_it(state: None) -> None:
    refresh_totals()
    with login_in("usage_web") as login, django_as(login):
        found = scrape()
        assert Client().get("/health/ready").status_code == 200
    assert value(found, "usage_database_up") == 1
    assert value(found, "usage_refresh_runs_total", status="success") == 1


def test_requests_are_counted_by_endpoint_and_status(state: None) -> None:
    def count(endpoint: str, method: str, status: str) -> float:
        labels = {"endpoint": endpoint, "method": method, "status": status}
        return scrape().get(("usage_http_requests_total", tuple(sorted(labels.items()))), 0)

    cases = [
        ("get", "/api/v1/usage/totals/", ("api/v1/usage/totals/", "GET", "401")),
        ("head", "/health/live", ("health/live", "HEAD", "200")),
        ("get", "/nothing/of/ours/", ("none", "GET", "404")),
        ("post", "/health/live", ("health/live", "POST", "405")),
    ]
    for method, path, labels in cases:
        before = count(*labels)
        getattr(Client(), method)(path)
        assert count(*labels) == before + 1, path
    before = count("health/live", "other", "405")
    Client().generic("BREW", "/health/live")
    assert count("health/live", "other", "405") == before + 1


def test_a_path_that_matches_nothing_makes_no_metric_of_its_own(state: None) -> None:
    Client().get("/someone/tries/this/4711")
    assert not any("4711" in str(labels) for _, labels in scrape())
