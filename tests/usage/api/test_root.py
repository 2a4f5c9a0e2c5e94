"""The root: a list of the endpoints."""

from django.test import Client
from rest_framework.test import APIClient

from tests.usage.api.api_requests import LISTS


def test_anybody_may_read_the_list_of_endpoints(db: None) -> None:
    response = Client().get("/api/v1/")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    found = {line.pop("path"): line for line in response.json()["endpoints"]}
    assert found["/api/v1/refreshes/"] == {
        "methods": ["GET", "POST"],
        "description": "Every refresh, the newest first.",
    }
    assert found["/api/v1/usage/totals.csv"] == {
        "methods": ["GET"],
        "description": "Totals by subscription and usage type over the days, as CSV.",
    }
    assert set(found) == {
        *(f"/api/v1/{path}/" for path in LISTS),
        *(f"/api/v1/{path}.csv" for path in LISTS),
        "/api/v1/",
        "/api/v1/refreshes/",
        "/api/v1/refreshes/{run_id}/",
        "/api/v1/schema/",
        "/api/v1/docs/",
    }


def test_a_parameter_is_a_fault_where_none_is_allowed(client_with_token: APIClient) -> None:
    for path in ("", "schema/"):
        response = client_with_token.get(f"/api/v1/{path}?colour=red&format=json")
        assert response.status_code == 400
        errors = response.json()["errors"]
        assert [(error["attr"], error["code"]) for error in errors] == [
            ("colour", "unknown"),
            ("format", "unknown"),
        ]
        assert errors[0]["detail"] == "Unknown parameter. Send none here."
