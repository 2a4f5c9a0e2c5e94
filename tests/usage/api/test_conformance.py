"""Whatever schemathesis asks of the API, what comes back is what the description says."""

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

# Random questions about each endpoint, beside those at the bounds of its parameters.
EXAMPLES = int(os.environ.get("USAGE_SCHEMA_EXAMPLES", "30"))
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"deterministic": True, "database": "none"},
        "checks": {
            "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503]},
            "negative_data_rejection": {"expected-statuses": [*range(400, 432), 503]},
            # Parameters that are good each may be no good together.
            "positive_data_acceptance": {"enabled": False},
        },
    }
)


DOCUMENT: dict[str, Any] = SchemaGenerator().get_schema(public=True)


def described() -> schemathesis.BaseSchema:
    """The description, in which nothing may be that it doesn't name."""
    document = deepcopy(DOCUMENT)
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    for path in document["paths"].values():
        for operation in path.values():
            # The web server's own, in HTML. The introduction of the description has it: among the
            # answers of an operation it would be a part of the type of each error.
            operation["responses"]["414"] = {"description": "The address is too long."}
    return schemathesis.openapi.from_dict(document, config=CONFIG)


SERVED_HERE = described()
SERVED_HERE.app = get_wsgi_application()


@pytest.fixture
def keys(state: None, queue: object) -> list[str]:
    """The keys of two tokens that may do everything, about all and about what is owned, and of one
    for each scope; there is usage of a month."""
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
def test_every_answer_is_as_described(keys: list[str], case: Case) -> None:
    """Fails when an answer has a status, header, type or body that docs/openapi.yaml doesn't name,
    when a parameter is taken that it forbids, or when nobody is answered."""
    # The same for the same question, or a failure could not be told again.
    number = crc32(repr((case.path_parameters, case.query, case.headers)).encode())
    key = keys[number % len(keys)]
    response = case.call_and_validate(headers={"Authorization": f"Token {key}"})
    if response.status_code >= 400:
        found = {error["code"] for error in response.json()["errors"]}
        operations = DOCUMENT["paths"][case.operation.path][case.operation.method]
        described = operations["responses"][str(response.status_code)]
        assert found <= codes(described)


def codes(answer: dict[str, Any]) -> set[str]:
    """The codes of an error, as its examples have them."""
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return set(answer["content"]["application/json"]["examples"])
