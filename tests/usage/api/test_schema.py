"""The published description says what the API does: all of it, and nothing else."""

import json
import re
from datetime import date, timedelta
from typing import Any, get_type_hints

import jsonschema
import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from tests.processes import ROOT
from tests.usage.api.asking import LISTS, faults, fill_totals, get
from tests.usage.api.test_permissions import ALL, METHODS
from usage.api import shapes
from usage.api.schema.hints import schema_of
from usage.api.schema.pages import written
from usage.models import RefreshRun
from usage.selectors import FIRST_DAY, LAST_DAY, RUN_COLUMNS

COMMITTED = ROOT / "docs" / "openapi.yaml"
WRITE = ".venv/bin/python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml"
SCHEMA: dict[str, Any] = SchemaGenerator().get_schema(public=True)
OPERATIONS = {
    (path, method): operation
    for path, operations in SCHEMA["paths"].items()
    for method, operation in operations.items()
}
QUERIES = [
    pytest.param(path, parameter, id=f"{path} {parameter['name']}")
    for path in LISTS
    for parameter in OPERATIONS[f"/api/v1/{path}/", "get"]["parameters"]
    if parameter["in"] == "query"
]


def resolved(part: Any) -> Any:
    """What a reference stands for."""
    while "$ref" in part:
        _, *names = part["$ref"].split("/")
        part = SCHEMA
        for name in names:
            part = part[name]
    return part


def fits(value: Any, schema: dict[str, Any]) -> None:
    """Raises where the value isn't what the schema says."""
    jsonschema.Draft202012Validator(
        {**schema, "components": SCHEMA["components"]},
        format_checker=jsonschema.FormatChecker(),
    ).validate(value)


def test_committed_file_is_what_the_code_says() -> None:
    """Fails when an endpoint, parameter or answer changes and docs/openapi.yaml does not."""
    found = written("application/yaml")
    assert isinstance(found, bytes)
    assert COMMITTED.read_bytes() == found, f"docs/openapi.yaml is old. Run: {WRITE}"


def test_description_is_valid_and_made_without_a_warning() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file=/dev/null")


def test_every_endpoint_is_described() -> None:
    paths = {path.replace("{run_id}", "1") for path in SCHEMA["paths"]}
    assert paths == {path for path in ALL if path.startswith("/api/")} - {"/api/v1/docs/"}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each["operationId"])
def test_every_example_fits_its_schema(operation: dict[str, Any]) -> None:
    """Fails when a shape, a code or a bound changes and what is shown of it does not."""
    for parameter in operation.get("parameters", []):
        shown = [each["value"] for each in parameter.get("examples", {}).values()]
        for example in shown + parameter["schema"].get("examples", []):
            fits(example, parameter["schema"])
    for answer in operation["responses"].values():
        for told in resolved(answer).get("content", {}).values():
            shown = [each["value"] for each in told.get("examples", {}).values()]
            shown += [told["example"]] if "example" in told else []
            assert shown or operation["operationId"] == "get_description"
            for example in shown:
                fits(example, told["schema"])


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each["operationId"])
def test_every_operation_says_who_may_ask(operation: dict[str, Any]) -> None:
    needed = [scope for way in operation.get("security", []) for [scope] in way.values()]
    assert all(f"`{scope}`" in operation["description"] for scope in needed)
    assert bool(needed) == (operation["operationId"] != "get_description")
    assert ("401" in operation["responses"]) == bool(needed)


def beyond(schema: dict[str, Any]) -> list[str]:
    """Values just outside what a schema allows."""
    if "enum" in schema:
        return [f"{schema['enum'][0]}x"]
    match schema["type"]:
        case "integer":
            return [str(schema["minimum"] - 1), str(schema["maximum"] + 1), "1.0"]
        case "array":
            one = schema["items"]
            most = schema["maxItems"] + 1
            return [*beyond(one), "", ",".join(str(number) for number in range(1, most + 1))]
        case "boolean":
            return ["True", "1"]
    return ["", "x" * (schema["maxLength"] + 1)] if "maxLength" in schema else ["", "x"]


def within(schema: dict[str, Any]) -> list[str]:
    """Values at the bounds of a schema, of those that are told by bounds."""
    if "enum" in schema:
        return [str(value) for value in schema["enum"]]
    match schema["type"]:
        case "integer":
            return [str(schema["minimum"]), str(schema["maximum"])]
        case "array":
            most = schema["maxItems"]
            return [*within(schema["items"]), ",".join(map(str, range(1, most + 1)))]
        case "boolean":
            return ["true", "false"]
    return ["x" * schema["maxLength"]] if "maxLength" in schema else []


@pytest.mark.parametrize(("path", "parameter"), QUERIES)
def test_bounds_are_those_that_are_checked(
    client_with_token: APIClient, path: str, parameter: dict[str, Any]
) -> None:
    """Fails when what the description allows is refused, or what it doesn't is answered."""
    fill_totals()
    name, schema = parameter["name"], parameter["schema"]
    other = "&".join(part for part in LISTS[path].split("&") if not part.startswith(f"{name}="))
    for value in beyond(schema):
        assert name in {at for at, _ in faults(client_with_token, path, f"{other}&{name}={value}")}
    for value in within(schema):
        response = get(client_with_token, path, f"{other}&{name}={value}")
        named = [] if response.status_code < 400 else response.json()["errors"]
        assert all(error["code"] in {"required", "totals_too_old"} for error in named), value
    if parameter.get("required"):
        assert (name, "required") in faults(client_with_token, path, other)


def test_pattern_of_days_ends_where_days_end() -> None:
    [day] = [
        each
        for each in OPERATIONS["/api/v1/usage/daily/", "get"]["parameters"]
        if each["name"] == "from_date"
    ]
    pattern = day["schema"]["pattern"]
    one = timedelta(days=1)
    assert all(
        re.fullmatch(pattern, str(each)) for each in [FIRST_DAY, LAST_DAY, date(2024, 2, 29)]
    )
    assert not any(re.fullmatch(pattern, str(each)) for each in [FIRST_DAY - one, LAST_DAY + one])


def test_run_is_described_as_the_table_has_it() -> None:
    hints = get_type_hints(shapes.Run, include_extras=True)
    assert tuple(hints) == RUN_COLUMNS
    for name, hint in hints.items():
        field = RefreshRun._meta.get_field(name)
        assert ("null" in schema_of(hint, lambda _: {})["type"]) == field.null, name


def test_codes_are_those_of_the_documentation() -> None:
    """Fails when docs/api.md or the description knows a code that the other doesn't."""
    told = {
        (status, code)
        for status, answer in (
            (status, resolved(answer))
            for operation in OPERATIONS.values()
            for status, answer in operation["responses"].items()
            if status >= "400"
        )
        for code in answer["content"].get("application/json", {}).get("examples", [])
    }
    rows = re.findall(r"^\| (\d{3}) \| (`.+?) \|", (ROOT / "docs" / "api.md").read_text(), re.M)
    documented = {
        (status, code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)
    }
    # No operation has them: where none is, or by another method.
    assert documented - told == {("405", "method_not_allowed")}
    assert told - documented == set()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/yaml"),
        ("application/json", "application/json"),
        ("application/yaml", "application/yaml"),
    ],
)
def test_anybody_may_read_the_description(accept: str, kind: str) -> None:
    response = Client().get("/api/v1/schema/", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == kind
    read = json.loads if kind == "application/json" else yaml.safe_load
    assert read(response.content)["paths"].keys() == SCHEMA["paths"].keys()


@pytest.mark.parametrize("path", ["/api/v1/schema/", "/api/v1/docs/"])
def test_other_methods_are_no_failure(path: str) -> None:
    """Fails when a method that is not meant makes the server fail."""
    client = Client(raise_request_exception=False)
    for method in METHODS:
        status = getattr(client, method)(path).status_code
        assert status in ({200} if method in {"get", "head"} else {200, 405}), method
