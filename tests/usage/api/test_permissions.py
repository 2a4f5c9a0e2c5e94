"""Permissions: every path either is public for a reason or authenticates and checks a scope."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient
from rest_framework.views import APIView

from tests.factories import client_of
from tests.usage.api.api_requests import LISTS, fill_totals, get, only_error
from usage.api.permissions import NeedsScope
from usage.models import Scope

METHODS = ("get", "head", "options", "post", "put", "patch", "delete")

# Public paths, each with the reason.
OPEN = {
    "/health/live": "probes have no token",
    "/health/ready": "probes have no token",
    "/metrics": "takes a token of its own, which needs no database; tested beside it",
    "/login/": "where people sign in",
    "/logout/": "signs out whoever is signed in",
    "/admin/login/": "where staff sign in",
    "/admin/logout/": "signs out whoever is signed in",
    "/api/v1/": "lists the endpoints, holds no data",
    "/api/v1/schema/": "describes the API, holds no data",
    "/api/v1/docs/": "shows that description",
}


def patterns(
    found: list[URLPattern | URLResolver], before: str = "/"
) -> Iterator[tuple[str, URLPattern]]:
    """Yield every path with its pattern, and with 1 for each variable part."""
    for pattern in found:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns, path)
        else:
            path = re.sub(r"\(\?P<\w+>[^)]*\)|<\w+:\w+>|<\w+>", "1", path)
            yield path.replace("^", "").replace("$", ""), pattern


ALL = dict(patterns(get_resolver().url_patterns))
CLOSED = sorted(set(ALL) - set(OPEN))


def test_the_walk_finds_every_list() -> None:
    assert {f"/api/v1/{path}/" for path in LISTS} <= set(CLOSED)


@pytest.mark.parametrize("path", CLOSED)
def test_every_closed_path_refuses_anonymous_requests(db: None, path: str) -> None:
    """Pages redirect to the login; all other paths refuse, never with 200 or 404."""
    client = APIClient()
    for method in METHODS:
        response: Any = getattr(client, method)(path)
        if path.startswith("/api/"):
            assert response.status_code == 401, method
            assert response["WWW-Authenticate"] == "Bearer"
        else:
            to_login = response.status_code == 302 and "/login/?next=" in response["Location"]
            assert to_login or response.status_code in {401, 403}, method
    if path.startswith("/api/"):
        assert client.get(path).json()["errors"][0]["code"] == "not_authenticated"


@pytest.mark.parametrize("path", [path for path in CLOSED if path.startswith("/api/")])
def test_every_endpoint_names_the_scopes_it_needs(path: str) -> None:
    endpoint: type[APIView] = ALL[path].callback.view_class  # type: ignore[attr-defined]
    [permission] = endpoint.permission_classes
    assert isinstance(permission, type)
    assert issubclass(permission, NeedsScope)
    assert permission.scopes


def test_an_endpoint_that_names_no_permission_refuses_everybody(db: None) -> None:
    [permission] = APIView.permission_classes
    assert not permission().has_permission(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("scope", [Scope.REFRESH_READ, Scope.REFRESH_RUN])
def test_usage_needs_its_scope(db: None, path: str, scope: Scope) -> None:
    client = client_of(get_user_model().objects.create_user("client"), scope)
    fill_totals()
    response = get(client, path, LISTS[path])
    assert response.status_code == 403
    assert only_error(response, "client_error") == {
        "code": "permission_denied",
        "detail": "This needs the scope usage:read or usage:read:own.",
        "attr": None,
    }


@pytest.mark.parametrize(
    "credentials",
    [
        *("Token", "Token x y", "Token unknown", "Token \0", "Token \xff", "Token ' OR 1=1"),
        *("Bearer x", f"Token {'x' * 5000}"),
    ],
)
def test_a_key_that_no_token_has_is_401(db: None, credentials: str) -> None:
    response = get(APIClient(), "subscriptions", authorization=credentials)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
