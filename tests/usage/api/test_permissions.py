"""Nothing answers without a token."""

from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from tests.usage.api.asking import LISTS, fill_totals, get

# Not for tokens: probes have none, and /metrics takes one that needs no database.
OPEN = {"/health/live", "/health/ready", "/metrics"}


def paths(patterns: list[URLPattern | URLResolver], before: str = "/") -> Iterator[str]:
    for pattern in patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from paths(pattern.url_patterns, path)
        else:
            yield path


def test_the_walk_finds_every_list() -> None:
    assert {f"/api/v1/{path}/" for path in LISTS} <= set(paths(get_resolver().url_patterns))


@pytest.mark.parametrize("path", sorted(set(paths(get_resolver().url_patterns)) - OPEN))
def test_every_path_needs_a_token(db: None, path: str) -> None:
    assert "<" not in path, "teach this test a value for the path's parameter"
    client = APIClient()
    for method in ("get", "head", "options", "post", "put", "patch", "delete"):
        response = getattr(client, method)(path)
        assert response.status_code == 401, method
        assert response["WWW-Authenticate"] == "Token"
    assert client.get(path).json()["errors"][0]["code"] == "not_authenticated"


@pytest.mark.parametrize(
    "credentials",
    ["Token", "Token x y", "Token unknown", "Token \0", "Token \xff", "Token ' OR 1=1", "Bearer x"],
)
def test_a_key_that_no_token_has_is_401(db: None, credentials: str) -> None:
    response = get(APIClient(), "subscriptions", authorization=credentials)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Token"


def test_the_token_of_a_user_who_left_is_401(db: None, client_with_token: APIClient) -> None:
    fill_totals()
    assert get(client_with_token, "subscriptions").status_code == 200
    user = get_user_model().objects.get()
    user.is_active = False
    user.save()
    assert get(client_with_token, "subscriptions").status_code == 401
    user.is_active = True
    user.save()
    Token.objects.all().delete()
    assert get(client_with_token, "subscriptions").status_code == 401
