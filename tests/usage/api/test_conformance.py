"""Every response to a request of schemathesis is as the description says."""

import os
from copy import deepcopy
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from tests.factories import make_key, make_subscription, refresh_totals
from tests.given import given
from usage.models import Scope

# Random requests to each endpoint, besides those at the bounds of its parameters.
EXAMPLES = int(os.environ.get("USAGE_SCHEMA_EXAMPLES", "30"))
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"deterministic": True, "database": "none"},
        "checks": {
            "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503]},
            "negative_data_rejection": {"expected-statuses": [*range(400, 432), 503]},
            # Parameters that are valid each may be invalid together.
            "positive_data_acceptance": {"enabled": False},
        },
    }
)


DOCUMENT: dict[str, Any] = SchemaGenerator().get_schema(public=True)


def described() -> schemathesis.BaseSchema:
    """Return the description, with properties that it does not name forbidden."""
    document = deepcopy(DOCUMENT)
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    for path in document["paths"].values():
        for operation in path.values():
            # The web server sends this status in HTML. Only the introduction of the description
            # names it: as a response of an operation it would become part of the type of errors.
            operation["responses"]["414"] = {"description": "The address is too long."}
    return schemathesis.openapi.from_dict(document, config=CONFIG)


SERVED_HERE = described()
SERVED_HERE.app = get_wsgi_application()


@pytest.fixture
def keys(state: None, queue: object) -> list[str]:
    """Make usage of a month. Return the keys of two tokens with all scopes, one to read everything
    and one to read what its user owns, and of one token for each scope."""
    user = User.objects.create_user("client")
    make_subscription("sub-000001", id=1, owner=user)
    make_subscription("sub-000002", id=2)
    given("""
        data  sub-000001 2026-11-01T10:00:00Z 160.10     10
        voice sub-000001 2026-11-03T11:00:00Z 0.05       60
        data  sub-000002 2026-11-03T10:00:00Z 1000.5     7
        voice sub-000002 2026-11-24T10:00:00Z 3.30000001 90
    """)
    refresh_totals()
    everything = [
        [reading, Scope.REFRESH_READ, Scope.REFRESH_RUN] for reading in (Scope.READ, Scope.READ_OWN)
    ]
    return [make_key(user, *scopes) for scopes in [*everything, *([scope] for scope in Scope)]]


@SERVED_HERE.parametrize()
@hypothesis_settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_response_is_as_described(keys: list[str], case: Case) -> None:
    """Fails when a response has a status, header, type or body that docs/openapi.yaml does not
    name, when the API accepts a parameter that it forbids, or when it refuses every request."""
    # Equal requests use the same key, otherwise a failure could not be reproduced.
    number = crc32(repr((case.path_parameters, case.query, case.headers)).encode())
    key = keys[number % len(keys)]
    response = case.call_and_validate(headers={"Authorization": f"Token {key}"})
    if response.status_code >= 400:
        found = {error["code"] for error in response.json()["errors"]}
        operations = DOCUMENT["paths"][case.operation.path][case.operation.method]
        described = operations["responses"][str(response.status_code)]
        assert found <= codes(described)


def codes(response: dict[str, Any]) -> set[str]:
    """Return the codes in the examples of a described error."""
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return set(response["content"]["application/json"]["examples"])
