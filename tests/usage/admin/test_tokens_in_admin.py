"""Tokens in the admin: for superusers, the key shown once, revoked for good."""

import re
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from rest_framework.test import APIClient

from tests.usage.api.api_requests import fill_totals, get
from usage.models import AccessToken

pytestmark = pytest.mark.django_db

LIST = "/admin/usage/accesstoken/"
ADD = f"{LIST}add/"


@pytest.fixture
def superuser() -> Client:
    """A browser in which a superuser is signed in."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("superuser"))
    return client


def form(**fields: Any) -> dict[str, Any]:
    owner = get_user_model().objects.get_or_create(username="owner")[0]
    return {"user": owner.pk, "name": "nightly", "scopes": ["usage:read"], **fields}


def make(client: Client) -> str:
    """The key that is shown for a new token."""
    page = client.post(ADD, form())
    assert page.status_code == 200
    found = re.search(r"<pre>(\S+)</pre>", page.content.decode())
    assert found, page.content
    assert "no-store" in page["Cache-Control"]
    return found[1]


def status_with(key: str) -> int:
    status: int = get(APIClient(), "subscriptions", authorization=f"Token {key}").status_code
    return status


def test_key_is_shown_once_and_signs_in(superuser: Client) -> None:
    fill_totals()
    key = make(superuser)
    assert status_with(key) == 200
    token = AccessToken.objects.get()
    assert (token.name, token.user.get_username(), token.scopes) == (
        "nightly",
        "owner",
        ["usage:read"],
    )
    for page in [LIST, f"{LIST}{token.pk}/change/"]:
        shown = superuser.get(page)
        assert shown.status_code == 200
        assert key not in shown.content.decode()


def test_token_that_is_revoked_is_refused(superuser: Client) -> None:
    fill_totals()
    key = make(superuser)
    token = AccessToken.objects.get()
    superuser.post(LIST, {"action": "revoke", "_selected_action": [token.pk]})
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert status_with(key) == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["usage:read", "usage:read:own"]},
        {"scopes": ["everything"]},
        {"expires_at_0": "2020-01-01", "expires_at_1": "00:00"},
        {"name": ""},
        {"user": "4711"},
    ],
)
def test_faults_are_said_and_nothing_is_made(superuser: Client, wrong: dict[str, Any]) -> None:
    page = superuser.post(ADD, form(**wrong))
    assert page.status_code == 200
    assert "errorlist" in page.content.decode()
    assert not AccessToken.objects.exists()


def test_a_token_ends_when_it_is_said_to(superuser: Client) -> None:
    superuser.post(ADD, form(expires_at_0="2090-01-01", expires_at_1="12:00"))
    expires_at = AccessToken.objects.get().expires_at
    assert expires_at is not None
    assert f"{expires_at:%Y-%m-%d %H:%M}" == "2090-01-01 12:00"


def test_staff_with_every_right_but_no_superuser_see_no_tokens(superuser: Client) -> None:
    """A token acts in the name of any user: whoever makes one is all of them."""
    make(superuser)
    clerk = get_user_model().objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(content_type__app_label="usage"))
    client = Client()
    client.force_login(clerk)
    assert client.get(LIST).status_code == 403
    assert client.post(ADD, form()).status_code == 403
    assert AccessToken.objects.count() == 1


def test_tokens_are_neither_changed_nor_deleted(superuser: Client) -> None:
    make(superuser)
    token = AccessToken.objects.get()
    for page in ["change", "delete"]:
        answer = superuser.post(f"{LIST}{token.pk}/{page}/", form(name="other", post="yes"))
        assert answer.status_code == 403
    token.refresh_from_db()
    assert token.name == "nightly"
