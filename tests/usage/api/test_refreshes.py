"""Refreshes by the API: one request at a time, all columns of a run, pages by key."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from tests.connections import ask, run_sql, second_session
from tests.factories import client_of
from tests.usage.api.api_requests import fill_totals, get, only_error, pages
from usage.database.identity import queue_name
from usage.models import RefreshRun, Scope
from usage.services.totals.refresh_requests import TASK, run_requested
from worker.app import app, know_the_database

PATH = "/api/v1/refreshes/"


@pytest.fixture
def operator(db: None) -> APIClient:
    return client_of(User.objects.create_user("operator"), Scope.REFRESH_READ, Scope.REFRESH_RUN)


def test_a_request_queues_one_run_for_the_worker(
    operator: APIClient, queue: Callable[[], int]
) -> None:
    response = operator.post(PATH)
    assert response.status_code == 202
    run = RefreshRun.objects.get()
    assert (run.status, run.trigger) == ("queued", "api")
    assert response["Location"] == f"{PATH}{run.pk}/"
    assert response.json() == operator.get(response["Location"]).json()
    assert response.json()["status"] == "queued"
    assert queue() == 1


def test_another_request_is_409_with_the_queued_run(
    operator: APIClient, queue: Callable[[], int]
) -> None:
    first = operator.post(PATH)["Location"]
    for _ in range(3):
        again = operator.post(PATH)
        assert again.status_code == 409
        assert again["Location"] == first
        assert only_error(again, "client_error")["code"] == "refresh_in_progress"
    assert queue() == 1
    assert RefreshRun.objects.count() == 1


@pytest.mark.parametrize("status", ["success", "skipped", "failed"])
def test_a_run_that_ended_blocks_no_request(
    operator: APIClient, queue: Callable[[], int], status: str
) -> None:
    first = operator.post(PATH)
    RefreshRun.objects.update(status=status)
    second = operator.post(PATH)
    assert second.status_code == 202
    assert second["Location"] != first["Location"]


def test_a_request_during_a_run_is_409_with_that_run(
    operator: APIClient, queue: Callable[[], int]
) -> None:
    run_sql(
        "INSERT INTO usage_refreshrun (trigger, status, started_at, keys_repaired, days_sealed,"
        " phases, error) VALUES ('schedule', 'running', now(), 0, 0, '{}', '')"
    )
    running = RefreshRun.objects.get()
    response = operator.post(PATH)
    assert (response.status_code, response["Location"]) == (409, f"{PATH}{running.pk}/")
    # No session holds the lock, so the process of the run has ended.
    run_sql("UPDATE usage_refreshrun SET started_at = now() - INTERVAL '61 seconds'")
    assert operator.post(PATH).status_code == 202
    assert queue() == 1


def test_a_long_run_that_holds_the_lock_is_in_progress(
    state: None, queue: Callable[[], int]
) -> None:
    operator = client_of(User.objects.create_user("operator"), Scope.REFRESH_RUN)
    run_sql(
        "INSERT INTO usage_refreshrun (trigger, status, started_at, keys_repaired, days_sealed,"
        " phases, error) VALUES ('schedule', 'running', now() - INTERVAL '1 hour', 0, 0, '{}', '')"
    )
    with second_session() as other:
        ask(other, "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        assert operator.post(PATH).status_code == 409
    assert operator.post(PATH).status_code == 202


def test_a_run_that_no_worker_took_in_time_failed(
    operator: APIClient, queue: Callable[[], int], settings: LazySettings
) -> None:
    first = operator.post(PATH).json()["id"]
    settings.USAGE_REFRESH_SECONDS = 7
    run_sql("UPDATE usage_refreshrun SET started_at = now() - INTERVAL '8 seconds'")
    assert operator.post(PATH).status_code == 202
    overdue = operator.get(f"{PATH}{first}/").json()
    assert overdue["status"] == "failed"
    assert overdue["error"] == (
        "No worker took it within 7 s. Check that a worker and the broker run."
    )
    assert overdue["finished_at"] is not None
    assert run_requested(first) is None


def test_two_runs_cannot_be_queued_at_once(db: None) -> None:
    """Fails when two concurrent requests, which cannot see each other's run, queue two."""
    [(definition,)] = run_sql(
        "SELECT indexdef FROM pg_indexes WHERE indexname = 'usage_refreshrun_one_queued'"
    )
    assert "UNIQUE" in definition
    assert "'queued'" in definition


def test_the_worker_runs_a_requested_refresh(state: None, queue: Callable[[], int]) -> None:
    operator = client_of(
        User.objects.create_user("operator"), Scope.REFRESH_READ, Scope.REFRESH_RUN
    )
    queued = operator.post(PATH)
    app.loader.import_default_modules()
    assert app.tasks[TASK](queued.json()["id"]) == "success"
    run = operator.get(queued["Location"]).json()
    assert (run["status"], run["trigger"], run["error"]) == ("success", "api", "")
    assert run["as_of"] is not None
    assert {"fence", "view", "periods", "commit"} <= set(run["phases"])
    assert RefreshRun.objects.count() == 1
    # The broker may deliver a message twice.
    assert app.tasks[TASK](queued.json()["id"]) is None
    assert RefreshRun.objects.count() == 1


def test_the_worker_listens_where_requests_are_sent(state: None) -> None:
    app.loader.import_default_modules()
    know_the_database()
    assert app.conf.task_default_queue == queue_name()
    assert TASK in app.tasks


def test_an_unreachable_broker_is_503_within_seconds(
    operator: APIClient, settings: LazySettings
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    response = operator.post(PATH)
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert only_error(response, "server_error")["code"] == "broker_unavailable"
    run = RefreshRun.objects.get()
    assert (run.status, run.error[:10]) == ("failed", "The broker")


@pytest.mark.parametrize(
    ("media_type", "body", "status", "faults"),
    [
        ("application/json", "", 202, []),
        ("application/json", "{}", 202, []),
        ("application/json; charset=utf-8", " {} ", 202, []),
        (
            "application/json",
            '{"days": 3, "sub": 1}',
            400,
            [("days", "unknown"), ("sub", "unknown")],
        ),
        ("application/json", "{", 400, [(None, "parse_error")]),
        ("application/json", "[]", 400, [(None, "parse_error")]),
        ("application/json", "null", 400, [(None, "parse_error")]),
        ("application/json", '{"a": NaN}', 400, [(None, "parse_error")]),
        ("application/json", "[" * 100_000, 400, [(None, "parse_error")]),
        ("application/json", '{"\\u0000": 1}', 400, [("\0", "unknown")]),
        ("application/json", f'"{"x" * 3_000_000}"', 400, [(None, "parse_error")]),
        ("application/x-www-form-urlencoded", "days=3", 415, [(None, "unsupported_media_type")]),
        ("multipart/form-data; boundary=b", "--b--", 415, [(None, "unsupported_media_type")]),
        ("text/plain", "now", 415, [(None, "unsupported_media_type")]),
        ("", "now", 415, [(None, "unsupported_media_type")]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_with_content_is_a_fault(
    operator: APIClient,
    queue: Callable[[], int],
    media_type: str,
    body: str,
    status: int,
    faults: list[tuple[str | None, str]],
) -> None:
    """Fails when the API accepts a field and ignores it."""
    response = operator.generic("POST", PATH, body, content_type=media_type)
    assert response.status_code == status
    errors = response.json().get("errors", [])
    assert [(error["attr"], error["code"]) for error in errors] == faults
    assert queue() == RefreshRun.objects.count() == (1 if status == 202 else 0)


def test_a_body_of_a_person_is_read_in_the_same_way(db: None, queue: Callable[[], int]) -> None:
    """Fails when Django parses the body first, to find the CSRF token in a form."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("staff", is_staff=True))
    token = client.get("/refreshes/").cookies["csrftoken"].value
    for media_type in ("multipart/form-data; boundary=b", "application/x-www-form-urlencoded"):
        headers = {"X-CSRFToken": token}
        response = client.generic("POST", PATH, "--b--", media_type, headers=headers)
        assert response.status_code == 415
    assert client.post(PATH, headers={"X-CSRFToken": token}).status_code == 415
    assert client.generic("POST", PATH, headers={"X-CSRFToken": token}).status_code == 202
    assert queue() == 1


def test_a_parameter_is_a_fault_where_none_is_allowed(
    operator: APIClient, queue: Callable[[], int]
) -> None:
    run = operator.post(PATH)["Location"]
    for response in (
        operator.post(f"{PATH}?days=3&live=true"),
        operator.get(f"{run}?days=3&live=true"),
    ):
        assert response.status_code == 400
        errors = response.json()["errors"]
        assert [(error["attr"], error["code"]) for error in errors] == [
            ("days", "unknown"),
            ("live", "unknown"),
        ]
    assert queue() == 1


@pytest.fixture
def history(db: None) -> None:
    run_sql(
        "INSERT INTO usage_refreshrun (id, trigger, status, started_at, finished_at, open_rows,"
        " rows_changed, keys_repaired, days_sealed, phases, error) SELECT number, 'schedule',"
        " 'success', '2026-11-01 10:00Z'::timestamptz + number * INTERVAL '1 minute',"
        " '2026-11-01 10:00:01Z'::timestamptz + number * INTERVAL '1 minute', 5, 2, 1, 0,"
        " '{\"view\": 0.25}', '' FROM generate_series(1, 5) AS numbers (number)"
    )


def test_the_history_is_whole_and_the_newest_comes_first(
    history: None, operator: APIClient
) -> None:
    found: Any = operator.get(PATH).json()
    assert found["next"] is None
    assert [run["id"] for run in found["results"]] == [5, 4, 3, 2, 1]
    assert found["results"][4] == {
        "id": 1,
        "trigger": "schedule",
        "status": "success",
        "started_at": "2026-11-01T10:01:00.000000Z",
        "finished_at": "2026-11-01T10:01:01.000000Z",
        "as_of": None,
        "open_rows": 5,
        "rows_changed": 2,
        "keys_repaired": 1,
        "days_sealed": 0,
        "sealed_before": None,
        "subscriptions_audited": None,
        "keys_differing": None,
        "phases": {"view": 0.25},
        "error": "",
        "remark": "",
    }
    assert operator.get(f"{PATH}1/").json() == found["results"][4]


def test_pages_of_the_history_go_by_key(history: None, operator: APIClient) -> None:
    found = pages(operator, "refreshes", "page_size=2")
    assert [[run["id"] for run in page] for page in found] == [[5, 4], [3, 2], [1]]


@pytest.mark.parametrize("number", ["6", "0", "9" * 30])
def test_a_run_that_does_not_exist_is_404(history: None, operator: APIClient, number: str) -> None:
    response = operator.get(f"{PATH}{number}/")
    assert response.status_code == 404
    assert only_error(response, "client_error")["code"] == "not_found"


def test_faults_name_their_parameters(operator: APIClient) -> None:
    response = get(operator, "refreshes", "page_size=0&colour=red&cursor=x&live=true")
    assert response.status_code == 400
    assert sorted(error["attr"] for error in response.json()["errors"]) == [
        "colour",
        "cursor",
        "live",
        "page_size",
    ]


def test_a_cursor_of_another_list_is_of_another_query(
    history: None, operator: APIClient, client_with_token: APIClient
) -> None:
    fill_totals()
    cursor = operator.get(PATH, {"page_size": "1"}).json()["next"].partition("cursor=")[2]
    assert get(client_with_token, "subscriptions", f"cursor={cursor}").status_code == 400


@pytest.mark.parametrize(
    ("scope", "read", "run"),
    [(Scope.READ, 403, 403), (Scope.REFRESH_READ, 200, 403), (Scope.REFRESH_RUN, 403, 202)],
)
def test_each_needs_its_scope(
    history: None, queue: Callable[[], int], scope: Scope, read: int, run: int
) -> None:
    client = client_of(User.objects.create_user("client"), scope)
    assert client.get(PATH).status_code == read
    assert client.get(f"{PATH}1/").status_code == read
    assert client.post(PATH).status_code == run
    assert queue() == (1 if run == 202 else 0)


def test_the_history_is_there_before_the_totals_are_filled(operator: APIClient) -> None:
    assert operator.get(PATH).json() == {"next": None, "results": []}
