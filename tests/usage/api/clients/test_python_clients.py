"""Python clients, generated from docs/openapi.yaml and used against a server."""

import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints
from urllib.parse import parse_qs, urlsplit

import pytest
from drf_spectacular.generators import SchemaGenerator

from tests.processes import ROOT
from tests.usage.api.clients.conftest import SCHEME, Running
from tests.usage.api.clients.node import run
from usage.models import RefreshRun

DESCRIPTION = str(ROOT / "docs" / "openapi.yaml")
OPERATIONS = {
    operation["operationId"]
    for path in SchemaGenerator().get_schema(public=True)["paths"].values()
    for operation in path.values()
}
RECORDS = {"subscription_id": 1, "usage_type": "data", "day": date(2026, 11, 1)}
# By operation: its arguments, and the type of its response.
CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "get_root": ({}, "EndpointList"),
    "get_description": ({}, "OpenApiDocument"),
    "get_over_limit": ({"price_limit": "160"}, "OverLimitPage"),
    "get_over_limit_csv": ({"price_limit": "160"}, "str"),
    "get_totals": ({"month": "2026-11", "external_id": ["sub-000001"]}, "TotalsPage"),
    "get_totals_csv": ({"month": "2026-11", "subscription_id": [1, 2]}, "str"),
    "get_daily": ({"ordering": "-day", "live": True, "subscription_id": [1, 2]}, "DailyPage"),
    "get_daily_csv": ({"from_date": date(2026, 11, 1)}, "str"),
    "get_records": (RECORDS, "UsageRecordsPage"),
    "get_records_csv": (RECORDS, "str"),
    "get_subscriptions": ({}, "SubscriptionsPage"),
    "get_subscriptions_csv": ({}, "str"),
    "post_refreshes": ({}, "Run"),
    "get_refreshes": ({"page_size": 1}, "RunsPage"),
    "get_refresh": ({"run_id": 0}, "Run"),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Return the package that openapi-python-client writes, without a warning."""
    place = tmp_path_factory.mktemp("python")
    (place / "config.yaml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", DESCRIPTION]
    printed = run([*command, "--config", "config.yaml", "--output-path", "made"], place)
    assert "arning" not in printed, printed
    sys.path.insert(0, str(place / "made"))
    yield importlib.import_module("usage_client")
    sys.path.remove(str(place / "made"))


@pytest.fixture(scope="module")
def operations(package: ModuleType) -> dict[str, Any]:
    """Return the module of each operation."""
    api = importlib.import_module("usage_client.api")
    found = pkgutil.walk_packages(api.__path__, "usage_client.api.")
    return {
        module.name.rpartition(".")[2]: importlib.import_module(module.name)
        for module in found
        if not module.ispkg
    }


@pytest.fixture
def client(package: ModuleType, running: Running) -> Iterator[Any]:
    """Return an authenticated client. Its connection closes before the test database is gone."""
    with package.AuthenticatedClient(
        base_url=running.url, token=running.key, prefix=SCHEME
    ) as client:
        yield client


def typed(operation: Any, sent: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments, with each text as the enum that the operation takes."""
    hints = get_type_hints(operation.sync)
    enums = {"usage_type": "UsageType", "ordering": "DailyOrdering"}
    models = importlib.import_module("usage_client.models")
    assert all(enums[name] in str(hints[name]) for name in sent.keys() & enums.keys())
    return {
        name: getattr(models, enums[name])(value) if name in enums else value
        for name, value in sent.items()
    }


def test_every_operation_returns_its_type(operations: dict[str, Any], client: Any) -> None:
    assert operations.keys() == CALLS.keys() == OPERATIONS
    for name, (sent, kind) in CALLS.items():
        if name == "get_refresh":
            sent = {"run_id": RefreshRun.objects.latest("pk").pk}
        response = operations[name].sync_detailed(client=client, **typed(operations[name], sent))
        assert type(response.parsed).__name__ == kind, (name, response.content)
        assert 200 <= response.status_code < 300


def test_a_response_has_its_own_type_or_that_of_an_error(operations: dict[str, Any]) -> None:
    """Fails when a response is a union of JSON and CSV, or an error is a union of ours and text."""
    for name, (_, kind) in CALLS.items():
        returned = str(get_type_hints(operations[name].sync)["return"])
        kinds = set(re.findall(r"[\w.]*?(\w+)(?: \||$)", returned.replace(", ", " |")))
        # A 304 has no body, so its type is Any. Only responses with an ETag can be a 304.
        has_tag = name.startswith(("get_totals", "get_daily", "get_over_limit"))
        assert kinds - {"None", "NoneType"} == {kind, "Error", *(["Any"] if has_tag else [])}, name


def test_every_value_of_an_enum_has_a_name(package: ModuleType) -> None:
    enum = importlib.import_module("usage_client.models").DailyOrdering
    assert enum.DAY_DESCENDING == "-day"
    assert not [each.name for each in enum if each.name[-1].isdigit()]


def test_pages_are_followed_by_their_cursor(operations: dict[str, Any], client: Any) -> None:
    found: list[tuple[int, str, str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = operations["get_totals"].sync(client=client, page_size=1, **cursor)
        found += [
            (row.subscription_id, row.usage_type.value, row.total_price) for row in page.results
        ]
        if page.next_ is None:
            break
        [text] = parse_qs(urlsplit(page.next_).query)["cursor"]
        cursor = {"cursor": text}
    assert found == [(1, "data", "160.1"), (1, "voice", "0.05"), (2, "data", "1000.5")]


def test_a_csv_has_every_row(operations: dict[str, Any], client: Any) -> None:
    text = operations["get_totals_csv"].sync(client=client)
    header, *lines = text.split("\r\n")
    assert header.startswith("subscription_id,usage_type,unit,total_price")
    assert [line.split(",")[3] for line in lines if line] == ["160.1", "0.05", "1000.5"]


def test_a_stored_response_is_not_sent_again(operations: dict[str, Any], client: Any) -> None:
    for name in ("get_totals", "get_totals_csv"):
        first = operations[name].sync_detailed(client=client)
        again = operations[name].sync_detailed(client=client, if_none_match=first.headers["ETag"])
        assert again.status_code == 304


def test_errors_have_codes(package: ModuleType, operations: dict[str, Any], client: Any) -> None:
    def refused(name: str, **sent: Any) -> tuple[int, str, list[tuple[str | None, str]]]:
        response = operations[name].sync_detailed(**{"client": client, **sent})
        assert type(response.parsed).__name__ == "Error", response.content
        error = response.parsed
        codes = [(fault.attr, fault.code.value) for fault in error.errors]
        return response.status_code, error.type_.value, codes

    assert refused("get_over_limit", price_limit="-1", month="x", page_size=0) == (
        400,
        "validation_error",
        [("page_size", "invalid"), ("month", "invalid"), ("price_limit", "invalid")],
    )
    assert refused("get_over_limit_csv", price_limit="x")[2] == [("price_limit", "invalid")]
    stranger = package.AuthenticatedClient(base_url=client._base_url, token="x", prefix=SCHEME)
    failed = [(None, "authentication_failed")]
    with stranger:
        assert refused("get_totals", client=stranger) == (401, "client_error", failed)
        assert refused("get_totals_csv", client=stranger) == (401, "client_error", failed)
    missing = [(None, "not_found")]
    assert refused("get_refresh", run_id=10**9) == (404, "client_error", missing)
    dropped = typed(operations["get_records"], {**RECORDS, "day": date(2026, 10, 20)})
    gone = [(None, "records_dropped")]
    assert refused("get_records", **dropped) == (410, "client_error", gone)
    operations["post_refreshes"].sync(client=client)
    waits = [(None, "refresh_in_progress")]
    assert refused("post_refreshes") == (409, "client_error", waits)
    assert refused("get_totals", max_staleness=0) == (
        503,
        "server_error",
        [(None, "totals_too_old")],
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Return the module of types, parameters and responses by datamodel-code-generator."""
    place = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "datamodel_code_generator", "--input", DESCRIPTION]
    options = ["--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel"]
    scopes = ["--openapi-scopes", "schemas", "paths", "parameters", "--formatters", "builtin"]
    run([*command, *options, *scopes, "--output", "usage_models.py"], place)
    sys.path.insert(0, str(place))
    yield importlib.import_module("usage_models")
    sys.path.remove(str(place))


def test_no_model_has_a_numbered_name(models: ModuleType) -> None:
    source = Path(str(models.__file__)).read_text()
    classes = re.findall(r"^class (\w+)", source, re.MULTILINE)
    assert {"TotalsPage", "TypeTotal", "Error", "ErrorCode", "Run"} <= set(classes)
    assert [name for name in classes if name[-1].isdigit() or name == "Record"] == []


def test_models_read_the_responses(models: ModuleType, client: Any) -> None:
    for path, name in {
        "usage/totals/": "TotalsPage",
        "usage/daily/": "DailyPage",
        "usage/over-limit/?price_limit=1": "OverLimitPage",
        "subscriptions/": "SubscriptionsPage",
        "refreshes/": "RunsPage",
    }.items():
        text = client.get_httpx_client().get(f"/api/v1/{path}").text
        page = getattr(models, name).model_validate_json(text)
        assert len(page.results) == len(json.loads(text)["results"]) > 0
