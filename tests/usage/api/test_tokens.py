"""Tokens: their storage, their refusal, and the record of their last use."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from rest_framework.test import APIClient

from tests.connections import ask, run_sql, second_session
from tests.factories import client_of, make_key
from tests.usage.api.api_requests import fill_totals, get, only_error
from usage.errors import TokenError
from usage.models import AccessToken, Scope
from usage.services.accounts.tokens import make_token, revoke_token


@pytest.fixture
def user(db: None) -> User:
    fill_totals()
    return User.objects.create_user("client")


def refusal(client: APIClient) -> str:
    response = get(client, "subscriptions")
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    error = only_error(response, "client_error")
    assert error["code"] == "authentication_failed"
    return error["detail"]


def test_the_key_is_nowhere_in_the_database(user: User) -> None:
    key = make_key(user)
    assert len(key) == len("usage_") + 64
    [row] = run_sql("SELECT usage_accesstoken::text FROM usage_accesstoken")
    assert key not in row[0]
    assert key.removeprefix("usage_") not in row[0]
    assert key != make_key(user)


def test_a_revoked_token_is_refused_at_once_and_for_good(user: User) -> None:
    client = client_of(user)
    assert get(client, "subscriptions").status_code == 200
    token = AccessToken.objects.get()
    first = revoke_token(token.pk).revoked_at
    assert refusal(client) == "The token was revoked."
    assert revoke_token(token.pk).revoked_at == first


def test_an_expired_token_is_refused(user: User) -> None:
    token, key = make_token(
        user=user, name="test", scopes=[Scope.READ], lifetime=timedelta(days=30)
    )
    client = APIClient(headers={"Authorization": f"Token {key}"})
    assert get(client, "subscriptions").status_code == 200
    assert token.expires_at is not None
    assert timedelta(days=29) < token.expires_at - datetime.now(UTC) < timedelta(days=31)
    run_sql("UPDATE usage_accesstoken SET expires_at = now()")
    assert refusal(client) == "The token has expired."


def test_the_token_of_a_user_who_left_is_refused(user: User) -> None:
    client = client_of(user)
    assert get(client, "subscriptions").status_code == 200
    User.objects.update(is_active=False)
    assert refusal(client) == "User inactive or deleted."
    User.objects.update(is_active=True)
    assert get(client, "subscriptions").status_code == 200
    AccessToken.objects.all().delete()
    assert refusal(client) == "Invalid token."


@pytest.mark.parametrize(
    "written",
    [
        *("Bearer {}", "bearer {}", "BEARER {}", "Token {}", "token {}", "TOKEN {}"),
        *("Bearer  {}", "Bearer\t{}", " Bearer {} ", "Token \t {}\t"),
    ],
)
def test_a_key_is_accepted_with_either_scheme_and_any_blanks(user: User, written: str) -> None:
    client = APIClient(headers={"Authorization": written.format(make_key(user))})
    assert get(client, "subscriptions").status_code == 200


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("{}", "one word and no scheme"),
        ("Key{}", "one word and no scheme"),
        ("Bearer\xa0{}", "one word and no scheme"),
        ("Bearer", "a scheme and no key"),
        (" token\t", "a scheme and no key"),
        ("Bearer {} {}", "more than one key"),
    ],
)
def test_a_header_that_lacks_something_is_refused_with_what_it_lacks(
    user: User, written: str, fault: str
) -> None:
    key = make_key(user)
    client = APIClient(headers={"Authorization": written.format(key, key)})
    detail = refusal(client)
    assert detail == f"The header Authorization has {fault}. Send `Authorization: Bearer KEY`."
    assert key not in detail


@pytest.mark.parametrize(
    "scopes", [[], ["usage:write"], ["usage:read", "usage:read:own"], ["usage:read", "x"]]
)
def test_the_database_refuses_scopes_that_mean_nothing(user: User, scopes: list[str]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        AccessToken.objects.create(digest="0", name="test", user=user, scopes=scopes)


def test_scopes_that_do_not_go_together_are_refused_by_name(user: User) -> None:
    with pytest.raises(TokenError, match="usage:read or usage:read:own, not both"):
        make_token(user=user, name="test", scopes=[Scope.READ, Scope.READ_OWN])
    with pytest.raises(TokenError, match="needs a scope"):
        make_token(user=user, name="test", scopes=[])


def unused(user: User) -> APIClient:
    client = client_of(user)
    AccessToken.objects.update(last_used_at=None)
    return client


def last_use() -> datetime | None:
    return AccessToken.objects.get().last_used_at


def test_the_last_use_is_noted_once_a_minute(user: User) -> None:
    client = unused(user)
    assert last_use() is None
    assert get(client, "subscriptions").status_code == 200
    first = last_use()
    assert first is not None
    assert get(client, "subscriptions").status_code == 200
    assert last_use() == first
    run_sql("UPDATE usage_accesstoken SET last_used_at = last_used_at - INTERVAL '61 seconds'")
    assert get(client, "subscriptions").status_code == 200
    again = last_use()
    assert again is not None
    assert again >= first


def test_a_refused_key_was_not_used(user: User) -> None:
    client = unused(user)
    User.objects.update(is_active=False)
    refusal(client)
    assert last_use() is None


def test_noting_the_use_neither_waits_nor_fails_a_request(state: None) -> None:
    """First another session locks the row, then the session of the request is read-only."""
    client = unused(User.objects.create_user("client"))
    run_sql("SET lock_timeout = '1s'")
    try:
        with second_session() as other:
            ask(other, "SELECT FROM usage_accesstoken FOR UPDATE")
            assert get(client, "subscriptions").status_code == 200
            assert last_use() is None
        run_sql("SET default_transaction_read_only = on")
        assert get(client, "subscriptions").status_code == 200
        assert last_use() is None
    finally:
        run_sql("RESET default_transaction_read_only")
        run_sql("RESET lock_timeout")
    assert get(client, "subscriptions").status_code == 200
    assert last_use() is not None
