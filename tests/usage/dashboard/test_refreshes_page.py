"""The page of refreshes, for operators: runs, the request of a run, partitions and sizes."""

import pytest
import redis
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client

from tests.connections import run_sql
from tests.factories import refresh_totals
from tests.usage.dashboard import pages
from usage.models import RefreshRun, UsageState
from usage.services.raw.partitions import maintain_partitions


@pytest.fixture
def own_broker(broker: redis.Redis, settings: LazySettings) -> None:
    """Set the broker to a database of this test alone."""
    number = broker.get_connection_kwargs()["db"]
    settings.REDIS_URL = f"{settings.REDIS_URL.rpartition('/')[0]}/{number}"


@pytest.mark.usefixtures("state")
def test_runs_are_listed_newest_first_with_their_results(operator: Client) -> None:
    run_sql(
        "INSERT INTO usage_refreshrun (trigger, status, started_at, finished_at, keys_repaired,"
        " days_sealed, phases, error) VALUES ('schedule', 'failed', '2026-11-03T12:00:00Z',"
        " '2026-11-03T12:00:02Z', 0, 0, '{}', 'The disk is full.')"
    )
    done = refresh_totals()
    [newest, failed] = pages.rows(operator, "/refreshes/", "runs")
    assert newest[:3] == [f"{done.started_at:%Y-%m-%d %H:%M:%S}", "command", "success"]
    assert newest[4:] == ["0", "0", "0", ""]
    assert failed[:4] == ["2026-11-03 12:00:00", "schedule", "failed", "2.00"]
    assert failed[4:] == ["\N{EN DASH}", "0", "0", "The disk is full."]
    assert "The last 2 runs: 1 succeeded, 1 failed and 0 were skipped" in pages.text(
        operator, "/refreshes/"
    )
    drawn = pages.charts(operator, "/refreshes/")
    assert drawn["durations"]["series"][-1] == {
        "label": "failed",
        "colour": "bad",
        "values": [2.0, 0.0],
    }


@pytest.mark.usefixtures("only_default_partitions")
def test_partitions_and_sizes_are_those_of_the_database(operator: Client) -> None:
    page = pages.text(operator, "/refreshes/")
    assert "Days ahead have no partition. Run: manage.py make_partitions" in page
    made = maintain_partitions()
    [data, voice] = pages.rows(operator, "/refreshes/", "partitions")
    for table, row in [("usage_datausagerecord", data), ("usage_voiceusagerecord", voice)]:
        assert row[:5] == [table, str(len(made)), str(made[0]), str(made[-1]), "none"]
    sizes = [row[0] for row in pages.rows(operator, "/refreshes/", "sizes")]
    assert {"usage_daily_open", "usage_daily_sealed", "usage_late_key"} <= set(sizes)
    assert "Days ahead have no partition" not in pages.text(operator, "/refreshes/")


@pytest.mark.django_db
def test_page_without_runs_says_how_to_start_one(operator: Client) -> None:
    assert "No refresh ran yet Press “Refresh now”" in pages.text(operator, "/refreshes/")


@pytest.mark.usefixtures("state")
def test_page_shows_the_pause(operator: Client) -> None:
    UsageState.objects.update(paused_at="2026-11-03T12:00:00Z")
    assert "paused since 2026-11-03 12:00:00 UTC. Run: manage.py resume_refresh" in pages.text(
        operator, "/refreshes/"
    )


@pytest.mark.usefixtures("own_broker")
def test_a_request_and_its_repeat_redirect_to_the_page_of_the_run(operator: Client) -> None:
    first = operator.post("/refreshes/")
    run = RefreshRun.objects.get()
    assert (run.trigger, run.status) == ("api", "queued")
    for response in [first, operator.post("/refreshes/")]:
        assert response.status_code == 302
        assert response.headers["Location"] == f"/refreshes/{run.pk}/"
    html = operator.get(f"/refreshes/{run.pk}/").content.decode()
    assert f"Refresh {run.pk} is queued" in pages.words(html)
    assert f'data-follow="/api/v1/refreshes/{run.pk}/"' in html
    run_sql(
        "UPDATE usage_refreshrun SET status = 'success', started_at = '2026-11-03T12:00:00Z',"
        " finished_at = '2026-11-03T12:00:01.5Z'"
    )
    html = operator.get(f"/refreshes/{run.pk}/").content.decode()
    assert f"Refresh {run.pk} ended: success in 1.50 s." in pages.words(html)
    assert "data-follow" not in html


@pytest.mark.django_db
def test_broker_that_is_away_is_reported(operator: Client, settings: LazySettings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    response = operator.post("/refreshes/")
    assert response.status_code == 503
    assert "The broker cannot be reached" in response.content.decode()


@pytest.mark.django_db
def test_unknown_run_is_not_found(operator: Client) -> None:
    assert "No such refresh" in pages.text(operator, "/refreshes/7/", status=404)


@pytest.mark.django_db
def test_only_operators_see_the_page_and_request_a_run(customer: User) -> None:
    carl = Client()
    carl.force_login(customer)
    assert "This page is for operators" in pages.text(carl, "/refreshes/", status=403)
    assert carl.post("/refreshes/").status_code == 403
    assert not RefreshRun.objects.exists()
    page = carl.get("/").content.decode()
    assert "Refresh now" not in page
    assert 'href="/refreshes/"' not in page


@pytest.mark.django_db
def test_a_request_needs_the_csrf_token(operator: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert strict.post("/refreshes/").status_code == 403
    assert not RefreshRun.objects.exists()
