"""Error responses: a status, one JSON shape, and the next step."""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection
from rest_framework.test import APIClient

from tests.connections import ask, second_session
from tests.usage.api.api_requests import LISTS, fill_totals, get, only_error
from usage.models import UsageState


def test_an_unknown_path_is_404_in_json(client_with_token: APIClient) -> None:
    for path in ("/api/", "/api/v1/usage/nothing/", "/api/v1/usage/totals/1/", "/%00/"):
        response = client_with_token.get(path)
        assert response.status_code == 404
        assert response["Cache-Control"] == "private, no-cache"
        assert only_error(response, "client_error")["code"] == "not_found"


def test_an_unknown_path_lists_the_endpoints(client_with_token: APIClient) -> None:
    detail = only_error(client_with_token.get("/api/v1/usage/total/"), "client_error")["detail"]
    assert detail.startswith(
        "Nothing is at /api/v1/usage/total/. The endpoints of the API are /api"
    )
    for path in ("", *(f"{path}/" for path in LISTS), *(f"{path}.csv" for path in LISTS)):
        assert f" /api/v1/{path}" in detail


@pytest.mark.parametrize("path", LISTS)
def test_other_methods_are_405(client_with_token: APIClient, path: str) -> None:
    for method in ("post", "put", "patch", "delete"):
        response = getattr(client_with_token, method)(f"/api/v1/{path}/")
        assert response.status_code == 405
        assert response["Allow"] == "GET, HEAD, OPTIONS"
        assert only_error(response, "client_error")["code"] == "method_not_allowed"


def test_an_empty_accept_header_accepts_everything(client_with_token: APIClient) -> None:
    assert get(client_with_token, "subscriptions", accept="").status_code != 406


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense", "image/*;q=x"])
def test_an_unknown_media_type_is_406(client_with_token: APIClient, accept: str) -> None:
    response = get(client_with_token, "subscriptions", accept=accept)
    assert response.status_code == 406
    assert only_error(response, "client_error")["code"] == "not_acceptable"


def test_a_request_with_thousands_of_parameters_is_400(client_with_token: APIClient) -> None:
    response = get(client_with_token, "subscriptions", "&".join(["subscription_id=1"] * 5000))
    assert response.status_code == 400
    assert only_error(response, "client_error")["code"] == "parse_error"


def test_a_host_that_is_not_ours_is_400(client_with_token: APIClient) -> None:
    """Fails when the error does not name the setting that the operator must change."""
    for host in ("elsewhere.example", "no host"):
        response = get(client_with_token, "subscriptions", host=host)
        assert response.status_code == 400
        error = only_error(response, "client_error")
        assert error["code"] == "host_not_allowed"
        assert "DJANGO_ALLOWED_HOSTS" in error["detail"]


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_totals_that_were_never_filled_are_503(
    client_with_token: APIClient, path: str, query: str
) -> None:
    UsageState.objects.update_or_create(id=1, defaults={"time_zone": "UTC", "as_of": None})
    response = get(client_with_token, path, query)
    assert response.status_code == 503
    assert response["Retry-After"] == "60"
    error = only_error(response, "server_error")
    assert error["code"] == "totals_not_filled"
    assert "refresh_usage" in error["detail"]


def test_a_view_that_is_not_populated_is_503(client_with_token: APIClient) -> None:
    fill_totals()
    with connection.cursor() as cursor:
        cursor.execute("REFRESH MATERIALIZED VIEW usage_daily_open WITH NO DATA")
    response = get(client_with_token, "usage/totals")
    assert response.status_code == 503
    assert response["Retry-After"] == "60"
    assert only_error(response, "server_error")["code"] == "totals_not_filled"


@pytest.fixture
def reconnected() -> Iterator[None]:
    yield
    connection.close()


def test_a_query_that_takes_too_long_says_what_to_narrow(
    state: None, client_with_token: APIClient, reconnected: None
) -> None:
    with second_session() as other:
        ask(other, "REFRESH MATERIALIZED VIEW usage_daily_open")
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '100ms'")
        response = get(client_with_token, "usage/totals")
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            cursor.execute("SET lock_timeout = '100ms'")
        waiting = get(client_with_token, "usage/totals")
    assert response.status_code == waiting.status_code == 503
    assert response["Retry-After"] == "30"
    error = only_error(response, "server_error")
    assert error["code"] == "query_timeout"
    assert "from_date" in error["detail"]
    assert "subscription_id" in error["detail"]
    assert only_error(waiting, "server_error")["code"] == "database_busy"


def test_a_query_that_computes_too_long_is_ended(db: None, client_with_token: APIClient) -> None:
    fill_totals()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usage_daily_sealed VALUES (1, '2026-11-01', 'data', 1, 1, 1, now())"
        )
        cursor.execute(
            "CREATE OR REPLACE VIEW usage_daily AS"
            " SELECT sealed.* FROM usage_daily_sealed AS sealed CROSS JOIN pg_sleep(20)"
        )
        cursor.execute("SET LOCAL statement_timeout = '100ms'")
    response = get(client_with_token, "usage/totals", "subscription_id=1")
    assert response.status_code == 503
    error = only_error(response, "server_error")
    assert error["code"] == "query_timeout"
    assert "fewer days (from_date, to_date, month)" in error["detail"]


def end_connection() -> None:
    """End the session on the server, as a restart does with a persistent connection."""
    with second_session(autocommit=True) as other:
        pid = connection.connection.info.backend_pid
        assert ask(other, "SELECT pg_terminate_backend(%s, 5000)", [pid]) == [(True,)]


def test_a_connection_that_the_server_ended_is_replaced_without_an_error(
    state: None, client_with_token: APIClient, reconnected: None
) -> None:
    assert get(client_with_token, "usage/totals").status_code == 200
    end_connection()
    assert get(client_with_token, "usage/totals").status_code == 200


def test_a_connection_that_ends_within_a_request_is_503_and_the_next_request_works(
    state: None, client_with_token: APIClient, reconnected: None
) -> None:
    def ending(execute: Any, statement: str, *arguments: Any) -> Any:
        if "usage_daily" in statement:
            end_connection()
        return execute(statement, *arguments)

    with connection.execute_wrapper(ending):
        response = get(client_with_token, "usage/totals")
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert only_error(response, "server_error")["code"] == "database_unavailable"
    connection.close_if_unusable_or_obsolete()
    assert get(client_with_token, "usage/totals").status_code == 200


def lose_server() -> None:
    """Simulate a crash of another process of the server: it warns each session and disconnects."""
    words = b"SWARNING\0VWARNING\0C57P02\0Mterminating connection because of a crash\0\0"
    ours, theirs = socket.socketpair()
    theirs.sendall(b"N" + struct.pack("!i", 4 + len(words)) + words)
    theirs.close()
    os.dup2(ours.fileno(), connection.connection.fileno())
    ours.close()


@pytest.mark.one_server("with TLS, the driver raises another error for a crash")
def test_a_server_that_crashes_between_two_statements_of_a_request_is_503(
    state: None, client_with_token: APIClient, reconnected: None
) -> None:
    """The driver raises a bare DatabaseError. Fails when the API returns a 500 for it."""

    def losing(execute: Any, statement: str, *arguments: Any) -> Any:
        if "usage_daily" in statement:
            lose_server()
            with pytest.raises(DatabaseError) as raised:
                execute(statement, *arguments)
            assert type(raised.value) is DatabaseError
            raise raised.value
        return execute(statement, *arguments)

    with connection.execute_wrapper(losing):
        response = get(client_with_token, "usage/totals")
    assert response.status_code == 503
    assert only_error(response, "server_error")["code"] == "database_unavailable"
    connection.close_if_unusable_or_obsolete()
    assert get(client_with_token, "usage/totals").status_code == 200


def test_an_unreachable_database_is_503(
    state: None,
    client_with_token: APIClient,
    reconnected: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection.close()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        away.setitem(connection.settings_dict, "PORT", "1")
        response = get(client_with_token, "usage/totals")
        connection.close()
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    error = only_error(response, "server_error")
    assert error["code"] == "database_unavailable"
    assert "127.0.0.1" not in error["detail"]


def test_an_unexpected_error_is_500_in_json_without_a_traceback(
    client_with_token: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("a secret of the server")

    fill_totals()
    monkeypatch.setattr("usage.selectors.is_answered_live", broken)
    response = get(client_with_token, "usage/totals")
    assert response.status_code == 500
    assert only_error(response, "server_error")["code"] == "error"
    assert b"secret" not in response.content
