"""A redirect keeps the method: a POST is not lost on its way."""

from collections.abc import Callable

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from tests.factories import client_of
from usage.models import RefreshRun, Scope


@pytest.mark.parametrize("method", ["get", "head", "post", "put", "patch", "delete"])
def test_a_path_without_its_slash_is_redirected_with_its_method(
    client_with_token: APIClient, method: str
) -> None:
    response = getattr(client_with_token, method)("/api/v1/usage/totals?month=2026-11")
    assert response.status_code == 308
    assert response["Location"] == "/api/v1/usage/totals/?month=2026-11"


def test_a_refresh_is_requested_also_by_the_path_without_its_slash(
    db: None, queue: Callable[[], int]
) -> None:
    operator = client_of(User.objects.create_user("operator"), Scope.REFRESH_RUN)
    response = operator.post("/api/v1/refreshes", follow=True)
    assert response.status_code == 202
    assert RefreshRun.objects.get().status == "queued"
    assert queue() == 1


def test_http_is_sent_on_to_https_with_its_method(db: None, settings: LazySettings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    response = Client().post("/api/v1/refreshes/")
    assert response.status_code == 308
    assert response["Location"] == "https://testserver/api/v1/refreshes/"


def test_a_path_that_ends_with_csv_has_no_slash(client_with_token: APIClient) -> None:
    assert client_with_token.get("/api/v1/usage/totals.csv/").status_code == 404
