"""Health: liveness needs no server, readiness needs all of them, and no response has a secret."""

import json
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db import connection
from django.db.models.functions import Now
from django.test import Client

from tests.connections import run_sql
from tests.silent import closed_port, silent_server
from usage import __version__
from usage.models import UsageState
from usage.monitoring import health

ALL_WELL = {
    "database": "The database answers.",
    "sequences": "The sequences have reached the state.",
    "totals_populated": "The totals are filled.",
    "broker": "The broker answers.",
}


@pytest.fixture(autouse=True)
def new_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without earlier checks."""
    monkeypatch.setattr(health, "_looks", health._Looks())


def ask(expected_status: int) -> dict[str, tuple[bool, str]]:
    """Request /health/ready and return each check."""
    response = Client().get("/health/ready")
    assert response.status_code == expected_status, response.content
    assert response["Cache-Control"].endswith("private")
    body = json.loads(response.content)
    assert body["ready"] is (expected_status == 200)
    return {check["name"]: (check["ok"], check["detail"]) for check in body["checks"]}


def test_live_needs_neither_database_nor_broker(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    """Fails when the view uses the database, since this test has no fixture of one."""
    settings.REDIS_URL = f"redis://127.0.0.1:{closed_port()}/0"
    response = Client().get("/health/live")
    assert response.status_code == 200
    assert response.json() == {"live": True, "version": __version__}


def test_ready_when_every_check_holds(state: None) -> None:
    checks = ask(200)
    assert {name: checks[name] for name in ALL_WELL} == {
        name: (True, detail) for name, detail in ALL_WELL.items()
    }
    assert checks["totals_age"][0] is True
    assert checks["totals_age"][1].endswith("at most 180 s are allowed.")


def test_a_check_is_a_line_of_the_response(state: None) -> None:
    lines = Client().get("/health/ready").content.decode().splitlines()
    assert len([line for line in lines if '"name": ' in line]) == 6


def test_not_ready_when_the_totals_are_too_old(state: None) -> None:
    UsageState.objects.update(as_of=Now() - timedelta(seconds=400))
    checks = ask(503)
    assert checks["totals_age"][0] is False
    assert "at most 180 s" in checks["totals_age"][1]
    assert checks["totals_populated"][0] is True


def test_not_ready_while_sequences_are_behind_the_state(
    state: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore may leave sequences behind: triggers would not log changes of sealed days."""
    UsageState.objects.update(sealed_before="2026-11-01")
    checks = ask(503)
    assert checks["sequences"] == (False, health.SEQUENCES_BEHIND)
    run_sql("SELECT setval('usage_logging_before', date '2026-11-01' - date '1999-12-31')")
    monkeypatch.setattr(health, "_looks", health._Looks())  # another second
    ask(200)


def test_the_setting_limits_the_age(state: None, settings: LazySettings) -> None:
    settings.USAGE_MAX_AGE_SECONDS = 600
    UsageState.objects.update(as_of=Now() - timedelta(seconds=400))
    ask(200)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage_state SET as_of = NULL",
        "REFRESH MATERIALIZED VIEW usage_daily_open WITH NO DATA",
    ],
)
def test_not_ready_before_the_totals_are_filled(state: None, statement: str) -> None:
    run_sql(statement)
    checks = ask(503)
    assert checks["totals_populated"] == (
        False,
        "The totals were never filled. Run refresh_usage.",
    )
    assert checks["totals_age"] == (False, "There are no totals yet.")


def lead_to(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Redirect new connections to this port instead of the database."""
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", str(port))
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "hunter2-of-the-database")


def test_database_that_hangs_times_out(state: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails, by its timeout, when the client has no deadline."""
    with monkeypatch.context() as patched, silent_server() as port:
        lead_to(patched, port)
        checks = ask(503)
    assert checks["database"] == (False, "The database did not answer within 2 s.")
    assert checks["totals_age"] == (False, "Unknown: the database is away.")
    assert checks["broker"][0] is True


def test_database_that_is_away(state: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        lead_to(patched, closed_port())
        assert ask(503)["database"] == (False, "The database cannot be reached.")


def test_database_that_is_not_migrated(state: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "NAME", "postgres")
        assert ask(503)["database"] == (False, "The database refused (42P01).")


@pytest.mark.parametrize("is_silent", [True, False])
def test_broker_that_does_not_answer(state: None, settings: LazySettings, is_silent: bool) -> None:
    """Fails, by its timeout, when the client has no deadline for a broker that hangs."""
    with silent_server() as silent:
        port = silent if is_silent else closed_port()
        settings.REDIS_URL = f"redis://:hunter2-of-the-broker@127.0.0.1:{port}/0"
        checks = ask(503)
    reason = "did not answer within 2 s" if is_silent else "cannot be reached or refused"
    assert checks["broker"] == (False, f"The broker {reason}.")
    assert checks["database"][0] is True


def test_the_response_has_no_address_and_no_secret(
    state: None, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    port = closed_port()
    settings.REDIS_URL = f"redis://:hunter2-of-the-broker@127.0.0.1:{port}/0"
    with monkeypatch.context() as patched:
        lead_to(patched, port)
        body = Client().get("/health/ready").content.decode()
    for secret in ["hunter2", "127.0.0.1", str(port), connection.settings_dict["NAME"]]:
        assert secret not in body


def test_many_requests_make_one_look(state: None, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[health.Check]] = []
    look = health.look

    def counted_look() -> list[health.Check]:
        looks.append(look())
        return looks[-1]

    monkeypatch.setattr(health, "look", counted_look)
    for _ in range(5):
        ask(200)
    assert len(looks) == 1
    monkeypatch.setattr(health, "SECONDS_BETWEEN_LOOKS", 0)
    ask(200)
    assert len(looks) == 2


def test_a_request_during_a_look_gets_the_previous_checks(state: None) -> None:
    """Fails when a server that hangs holds every thread of the process."""
    before = health._looks.newest()
    with health._looks._lock:
        assert health._looks.newest() == before


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_post_is_refused(path: str) -> None:
    assert Client().post(path).status_code == 405
