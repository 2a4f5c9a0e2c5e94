"""The log: JSON lines with the ids of requests and runs, and without secrets."""

import json
import logging
from typing import Any

import pytest
from django.test import Client, override_settings
from structlog.contextvars import bound_contextvars, clear_contextvars

from config import logs
from tests.factories import refresh_totals
from tests.processes import run

PASSWORD = 'p%s w"ord/with:everything'


@pytest.fixture(autouse=True)
def nothing_bound() -> None:
    """Clear the request id that an earlier test left."""
    clear_contextvars()


def line(message: str, *arguments: Any, secrets: list[str] | None = None, **rest: Any) -> str:
    """Return the line that the formatter writes for a record."""
    record = logging.LogRecord("a.logger", logging.WARNING, __file__, 1, message, arguments, None)
    record.__dict__.update(rest)
    return logs.formatter(is_readable=False, secrets=secrets or []).format(record)


def test_a_line_is_one_object() -> None:
    written = line("Two\nlines of %s", "text", status=200, request=object())
    assert "\n" not in written
    body = json.loads(written)
    assert body.pop("timestamp").endswith("Z")
    assert body == {
        "event": "Two\nlines of text",
        "level": "warning",
        "logger": "a.logger",
        "status": 200,
    }


def test_what_is_bound_is_in_every_line() -> None:
    with bound_contextvars(run_id=7, request_id="r"):
        body = json.loads(line("x"))
    assert (body["run_id"], body["request_id"]) == (7, "r")
    assert "run_id" not in json.loads(line("x"))


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Token ff2ce5f8a1",
        "authorization: bearer eyJhbGciOi.x1-_y",
        "Basic dXNlcjpodW50ZXIy",
        "postgresql://usage:ff2ce5f8a1@db:5432/usage",
        "redis://:ff2ce5f8a1@broker:6379/0",
        "host=db user=usage password=ff2ce5f8a1 dbname=usage",
        "Cookie: sessionid=ff2ce5f8a1; csrftoken=ff2ce5f8a1",
        "the key usage_ff2ce5f8a1ff2ce5f8a1 was copied here",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    for written in [line(text), line("%s", text), line("x", exc_info=_raised(text))]:
        assert "[hidden]" in written
        for secret in ["ff2ce5f8a1", "eyJhbGciOi", "dXNlcjpodW50ZXIy"]:
            assert secret not in written


@pytest.mark.parametrize(
    "form", ['p%s w"ord/with:everything', "p%25s%20w%22ord%2Fwith%3Aeverything"]
)
def test_secrets_of_the_settings_are_hidden_however_they_are_written(form: str) -> None:
    written = line("%s", f"it failed: {form}.", secrets=[PASSWORD])
    assert json.loads(written)["event"] == "it failed: [hidden]."


@pytest.mark.parametrize(
    "text",
    [
        "The token is unknown. Token expired.",
        "usage_daily_open",
        "http://127.0.0.1:8000/api/v1/",
        "basic totals",
    ],
)
def test_words_are_not_taken_for_secrets(text: str) -> None:
    assert json.loads(line(text))["event"] == text


def test_readable_lines_hide_as_much() -> None:
    readable = logs.formatter(is_readable=True, secrets=["hunter2-hunter2"])
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "was hunter2-hunter2", (), None)
    written = readable.format(record)
    assert "was [hidden]" in written
    assert not written.startswith("{")


def test_readable_lines_have_no_control_characters() -> None:
    text = "a\x1b[2Jb\x9b1mc\rd"
    record = logging.LogRecord("a", logging.INFO, __file__, 1, text, (), _raised(text))
    written = logs.formatter(is_readable=True).format(record)
    assert written.count("a\\x1b[2Jb\\x9b1mc\\x0dd") == 2
    assert all(character.isprintable() or character == "\n" for character in written)


@pytest.mark.parametrize(("debug", "begins"), [("0", "{"), ("1", "2")])
def test_development_has_lines_for_people(debug: str, begins: str) -> None:
    code = "import django; django.setup(); import logging; logging.getLogger('x').error('said')"
    written = run("-c", code, DJANGO_DEBUG=debug).stderr
    assert written.startswith(begins)
    assert "said" in written


def test_password_of_an_address_is_found() -> None:
    assert logs.password_in("redis://:a%2Fb@broker:6379/0") == "a/b"
    assert logs.password_in("redis://broker:6379/0") is None


@pytest.mark.parametrize(
    ("request_id", "is_kept"),
    [
        ("0aF-_.z", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("two words", False),
        ("{}", False),
        ("ä", False),
    ],
)
def test_a_valid_request_id_of_the_client_is_kept(request_id: str, is_kept: bool) -> None:
    response = Client().get("/health/live", headers={"X-Request-ID": request_id})
    returned = response["X-Request-ID"]
    assert (returned == request_id) is is_kept
    assert len(returned) in {32, len(request_id)}


def test_two_requests_have_two_names() -> None:
    assert (
        Client().get("/health/live")["X-Request-ID"] != Client().get("/health/live")["X-Request-ID"]
    )


def test_probes_that_succeed_leave_no_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Client().get("/health/live")
        Client().get("/metrics")
    assert [record.__dict__["status"] for record in caplog.records] == [401]


def test_refresh_says_how_it_ended_and_names_its_run(
    state: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, Any]] = []
    handler = logging.Handler()
    formatter = logs.formatter(is_readable=False)
    monkeypatch.setattr(
        handler, "emit", lambda record: written.append(json.loads(formatter.format(record)))
    )
    logger = logging.getLogger("usage.services.totals.runs")
    logger.addHandler(handler)
    try:
        run = refresh_totals()
    finally:
        logger.removeHandler(handler)
    [body] = written
    assert (body["event"], body["run_id"]) == ("The refresh ended: success", run.pk)
    assert body["trigger"] == "command"
    assert set(run.phases) == set(body["phases"])


@override_settings(DEBUG=False)
def test_failure_of_the_server_is_logged_under_the_name_of_its_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from usage.monitoring import health

    monkeypatch.setattr(health, "_looks", None)
    client = Client(raise_request_exception=False)
    response = client.get("/health/ready", headers={"X-Request-ID": "the-one"})
    assert response.status_code == 500
    assert response["X-Request-ID"] == "the-one"
    assert any(record.exc_info for record in caplog.records)


def _raised(text: str) -> Any:
    try:
        raise ValueError(text)
    except ValueError as error:
        return type(error), error, error.__traceback__
