"""The published description: it describes all that the API does, and nothing more."""

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, get_type_hints

import jsonschema
import pytest
import yaml
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from tests.factories import client_of
from tests.processes import ROOT
from tests.usage.api.api_requests import LISTS, faults, fill_totals, get
from tests.usage.api.test_permissions import ALL, METHODS
from usage.api import shapes
from usage.api.error_types import ErrorCode
from usage.api.schema.hints import schema_of
from usage.api.schema.schema_views import written
from usage.models import RefreshRun, Scope
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
    """Return the part that a reference names."""
    while "$ref" in part:
        _, *names = part["$ref"].split("/")
        part = SCHEMA
        for name in names:
            part = part[name]
    return part


def fits(value: Any, schema: dict[str, Any]) -> None:
    """Raise an error if the value does not fit the schema."""
    jsonschema.Draft202012Validator(
        {**schema, "components": SCHEMA["components"]},
        format_checker=jsonschema.FormatChecker(),
    ).validate(value)


def test_committed_file_is_current() -> None:
    """Fails when an endpoint, parameter or response changes and docs/openapi.yaml does not."""
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
    """Fails when a shape, a code or a bound changes and its example does not."""
    for parameter in operation.get("parameters", []):
        shown = [each["value"] for each in parameter.get("examples", {}).values()]
        for example in shown + parameter["schema"].get("examples", []):
            fits(example, parameter["schema"])
    for response in operation["responses"].values():
        for content in resolved(response).get("content", {}).values():
            shown = [each["value"] for each in content.get("examples", {}).values()]
            shown += [content["example"]] if "example" in content else []
            assert shown
            for example in shown:
                fits(example, content["schema"])


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each["operationId"])
def test_every_operation_names_its_scopes(operation: dict[str, Any]) -> None:
    is_open = operation["operationId"] in {"get_description", "get_root"}
    ways = [] if is_open else ["token", "session"]
    assert [name for way in operation.get("security", []) for name in way] == ways
    needed = re.findall(r"`(\w+:[\w:]+)`", operation["description"])
    assert set(needed) <= set(Scope)
    assert bool(needed) == bool(ways) == ("401" in operation["responses"])


def beyond(schema: dict[str, Any]) -> list[str]:
    """Return values just outside the bounds of a schema."""
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
    """Return values at the bounds of a schema; none if it has no bounds."""
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
    """Fails when the API refuses a value that the description allows, or accepts another."""
    fill_totals()
    name, schema = parameter["name"], resolved(parameter["schema"])
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
        schema = schema_of(hint, lambda _: {"type": "string"})
        assert ("null" in schema["type"]) == field.null, name


def test_codes_are_those_of_the_documentation() -> None:
    """Fails when docs/api.md or the description has a code that the other does not have."""
    described = {
        (status, code)
        for status, response in (
            (status, resolved(response))
            for operation in OPERATIONS.values()
            for status, response in operation["responses"].items()
            if status >= "400"
        )
        for code in response["content"].get("application/json", {}).get("examples", [])
    }
    rows = re.findall(r"^\| (\d{3}) \| (`.+?) \|", (ROOT / "docs" / "api.md").read_text(), re.M)
    documented = {
        (status, code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)
    }
    assert documented == described
    assert {code for _, code in described} == set(ErrorCode)


def described_schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema with its place: those of the types and, in operations, those of parameters
    and responses."""
    yield from SCHEMA["components"]["schemas"].items()
    for operation in OPERATIONS.values():
        name = operation["operationId"]
        for parameter in operation.get("parameters", []):
            yield f"{name} {parameter['name']}", parameter["schema"]
        for status, response in operation["responses"].items():
            for kind, content in resolved(response).get("content", {}).items():
                yield f"{name} {status} {kind}", content["schema"]


def test_every_object_and_every_enum_has_a_name() -> None:
    """Fails when a generator has to invent a name, such as GetTotalsResponse200."""

    def parts(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            yield schema
            for part in schema.values():
                yield from parts(part)
        elif isinstance(schema, list):
            for part in schema:
                yield from parts(part)

    for where, schema in described_schemas():
        is_named = where in SCHEMA["components"]["schemas"]
        for part in parts(schema):
            if part is not schema or not is_named:
                assert "enum" not in part, where
                assert not isinstance(part.get("properties"), dict), where
                assert not {"allOf", "anyOf", "oneOf"} & part.keys(), where


def test_names_are_those_that_clients_read() -> None:
    names = set(SCHEMA["components"]["schemas"])
    assert {"TotalsPage", "DailyPage", "OverLimitPage", "UsageRecordsPage", "Error"} <= names
    # TypeScript has a type of this name.
    assert "Record" not in names


def test_every_response_and_every_error_has_one_type() -> None:
    """Fails when a client gets a union: of JSON and CSV, or of our errors and those of others."""
    for operation in OPERATIONS.values():
        for status, response in operation["responses"].items():
            content = resolved(response).get("content", {})
            if status >= "400":
                schemas = [{"$ref": "#/components/schemas/Error"}]
                assert [each["schema"] for each in content.values()] == schemas
            elif operation["operationId"] != "get_description":
                assert len(content) == (0 if status == "304" else 1)


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_sending_every_default_changes_nothing(
    client_with_token: APIClient, path: str, query: str
) -> None:
    """Generated clients always send the default of each parameter that has one."""
    fill_totals()
    for ending in (".csv", "/"):
        defaults = "&".join(
            f"{parameter['name']}={json.dumps(parameter['schema']['default'])}"
            for parameter in OPERATIONS[f"/api/v1/{path}{ending}", "get"]["parameters"]
            if "default" in parameter["schema"]
        )
        plain, sent = (
            client_with_token.get(f"/api/v1/{path}{ending}", QUERY_STRING=each.strip("&"))
            for each in (query, f"{query}&{defaults}")
        )
        assert plain.status_code == sent.status_code == 200
        found = [re.sub(rb'"as_of":"[^"]*"', b"", b"".join(each)) for each in (plain, sent)]
        assert found[0] == found[1]


def test_responses_of_the_web_server_are_in_the_introduction() -> None:
    """Fails when a 414 in HTML, or one without content, makes the type of an error unknown."""
    assert "414 or 431" in SCHEMA["info"]["description"]
    assert all("414" not in operation["responses"] for operation in OPERATIONS.values())


def test_a_csv_is_described_without_a_page_size() -> None:
    for (path, _), operation in OPERATIONS.items():
        if path.endswith(".csv"):
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert not names & {"page_size", "cursor", "format"}
            assert list(operation["responses"]["200"]["content"]) == ["text/csv"]


def test_a_key_is_a_bearer_token() -> None:
    token = SCHEMA["components"]["securitySchemes"]["token"]
    assert (token["type"], token["scheme"]) == ("http", "bearer")


def test_the_description_names_server_contact_and_licence() -> None:
    assert [server["url"] for server in SCHEMA["servers"]] == ["/"]
    assert SCHEMA["info"]["contact"]["name"]
    assert SCHEMA["info"]["license"] == {"name": "MIT", "identifier": "MIT"}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each["operationId"])
def test_every_operation_describes_its_failure_and_other_methods(operation: dict[str, Any]) -> None:
    assert {"400", "405", "429", "500"} <= operation["responses"].keys()
    is_file = operation["operationId"].endswith("_csv")
    assert ("406" in operation["responses"]) != is_file


def example(path: str, method: str, status: str) -> Any:
    response = OPERATIONS[f"/api/v1/{path}/", method]["responses"][status]
    return response["content"]["application/json"]["example"]


@pytest.mark.parametrize("path", LISTS)
def test_the_example_of_a_page_is_true(client_with_token: APIClient, path: str) -> None:
    """Fails when an example says that live rows are those of the last refresh."""
    fill_totals()
    shown = example(path, "get", "200")
    query = f"{LISTS[path]}&month=2026-11" if "price" in str(shown) else LISTS[path]
    if path == "usage/records":
        query = LISTS[path].replace("2026-11-01", shown["from_date"])
    found = get(client_with_token, path, query.lstrip("&")).json()
    assert shown.keys() == found.keys()
    for name in ("live", "from_date", "to_date", "time_zone", "currency"):
        assert shown[name] == found[name], name


def test_all_examples_of_moments_have_one_format() -> None:
    shown = re.findall(r"'?(\d{4}-\d\d-\d\dT[^'\s]+)", written("application/yaml").decode())  # type: ignore[union-attr]
    assert shown
    assert {re.sub("[0-9]", "9", each) for each in shown} == {"9999-99-99T99:99:99.999999Z"}


def test_the_example_of_a_requested_refresh_is_true(db: None, queue: object) -> None:
    operator = client_of(User.objects.create_user("operator"), Scope.REFRESH_RUN)
    found = operator.post("/api/v1/refreshes/").json()
    shown = example("refreshes", "post", "202")
    own = {"id": shown["id"], "started_at": shown["started_at"]}
    assert found | own == shown


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
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
def test_other_methods_do_not_fail(path: str) -> None:
    """Fails when a method that the path does not have makes the server fail."""
    client = Client(raise_request_exception=False)
    for method in METHODS:
        status = getattr(client, method)(path).status_code
        assert status in ({200} if method in {"get", "head"} else {200, 405}), method
