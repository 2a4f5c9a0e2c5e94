"""People: they sign in with a password, and the API authenticates their session."""

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from tests.connections import ask, second_session
from tests.factories import data_record, make_subscription
from tests.usage.api.api_requests import fill_totals, get, only_error, results
from usage.models import RefreshRun

PASSWORD = "correct horse battery staple"


@pytest.fixture
def users(db: None) -> None:
    User.objects.create_user("boss", password=PASSWORD, is_staff=True)
    anna = User.objects.create_user("anna", password=PASSWORD)
    for number, owner in enumerate([anna, None], start=1):
        data_record(make_subscription(id=number, owner=owner), "2026-11-01T10:00:00Z", price="1")
    fill_totals()


def signed_in(username: str) -> APIClient:
    """Return a client with the session that the login page made."""
    client = APIClient(enforce_csrf_checks=True)
    form = client.get("/login/")
    assert form.status_code == 200
    response = client.post(
        "/login/",
        {
            "username": username,
            "password": PASSWORD,
            "csrfmiddlewaretoken": client.cookies["csrftoken"].value,
        },
    )
    assert (response.status_code, response["Location"]) == (302, "/")
    return client


@pytest.mark.parametrize(("username", "seen"), [("boss", [1, 2]), ("anna", [1])])
def test_staff_sees_everything_and_others_what_they_own(
    users: None, username: str, seen: list[int]
) -> None:
    client = signed_in(username)
    assert [row["subscription_id"] for row in results(client, "usage/totals")] == seen


def test_a_wrong_password_signs_nobody_in(users: None) -> None:
    client = Client()
    response = client.post("/login/", {"username": "boss", "password": "wrong"})
    assert response.status_code == 200
    assert "Please enter a correct username and password" in response.content.decode()
    assert get(APIClient(cookies=client.cookies), "usage/totals").status_code == 401


def test_a_person_who_signed_out_or_left_is_refused(users: None) -> None:
    client = signed_in("boss")
    token = client.cookies["csrftoken"].value
    assert client.post("/logout/", headers={"X-CSRFToken": token}).status_code == 302
    assert get(client, "usage/totals").status_code == 401
    client = signed_in("boss")
    User.objects.update(is_active=False)
    assert get(client, "usage/totals").status_code == 401


def test_a_session_alone_changes_nothing(users: None) -> None:
    """Another site could make a browser send the session; it does not know the CSRF token."""
    response = signed_in("boss").post("/api/v1/refreshes/")
    assert response.status_code == 403
    assert only_error(response, "client_error")["code"] == "permission_denied"
    assert RefreshRun.objects.count() == 0


def test_refreshes_are_for_staff(users: None) -> None:
    client = signed_in("anna")
    token = client.cookies["csrftoken"].value
    assert client.get("/api/v1/refreshes/").status_code == 403
    assert client.post("/api/v1/refreshes/", headers={"X-CSRFToken": token}).status_code == 403
    assert signed_in("boss").get("/api/v1/refreshes/").status_code == 200


def test_the_key_of_a_token_wins_over_a_session(users: None) -> None:
    response = get(signed_in("boss"), "usage/totals", authorization="Token unknown")
    assert response.status_code == 401


@pytest.mark.usefixtures("state")
def test_a_connection_that_the_server_ended_costs_no_request() -> None:
    User.objects.create_user("boss", password=PASSWORD, is_staff=True)
    client = signed_in("boss")
    assert get(client, "usage/totals").status_code == 200
    for _ in range(2):
        pid = connection.connection.info.backend_pid
        with second_session() as other:
            assert ask(other, "SELECT pg_terminate_backend(%s, 5000)", [pid]) == [(True,)]
        assert get(client, "usage/totals").status_code == 200
