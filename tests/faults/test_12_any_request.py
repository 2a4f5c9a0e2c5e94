"""Requests generated from the OpenAPI description, and requests of random bytes, to every path."""

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice, product
from typing import Any
from urllib.parse import quote_from_bytes

import jsonschema
import pytest
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

from tests.connections import wait_until
from tests.faults.installation import Installation, installed
from tests.faults.raw_http import Response, ask, written
from tests.faults.trials import Trials
from tests.usage.api.test_any_input import NAMES
from tests.usage.api.test_conformance import described
from tests.usage.api.test_permissions import ALL, METHODS
from tests.usage.api.test_schema import OPERATIONS, SCHEMA, resolved
from usage.models import Scope

SCOPES = [Scope.READ, Scope.REFRESH_READ, Scope.REFRESH_RUN]
LIKELY = [
    *("data", "voice", "1", "2,3", "2026-11", "2026-11-01", "true", "json", "csv", "-day", "150"),
    *("", "0", "-1", "9223372036854775808", "1e400", "NaN", "%00", "%FF", "%", "\xff", "'"),
]
HEADERS = [
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Connection", "Cookie"),
    *("Content-Encoding", "Content-Length", "Content-Type", "Expect", "Forwarded", "Host"),
    *("If-Match", "If-Modified-Since", "If-None-Match", "Origin", "Range", "Referer", "Upgrade"),
    *("TE", "Transfer-Encoding", "User-Agent", "X-CSRFToken", "X-Forwarded-For", "X-Request-Id"),
    *("X-Forwarded-Proto", "X-HTTP-Method-Override"),
]
WORDS = [
    *LIKELY,
    "*/*",
    "text/csv",
    "application/json",
    "gzip",
    "close",
    "chunked",
    "bytes=0-",
    "*",
]


# 501: unknown transfer coding. 503: busy. 505: unknown version of HTTP.
ALLOWED_ERRORS = {501, 503, 505}


ONE_ROUND = hypothesis_settings(
    max_examples=5, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


class Web:
    """A running web server, and the key of a token with all scopes."""

    def __init__(self, installation: Installation) -> None:
        self.log = installation.place / "web.log"
        installation.manage(
            "generate_usage", "--subscriptions", "50", "--days", "3", "--records", "3000"
        )
        installation.manage("refresh_usage")
        scopes = [word for scope in SCOPES for word in ("--scope", scope)]
        made = installation.manage("make_token", "any", "--new-user", "--name", "any", *scopes)
        self.key = made.split()[-1]
        _, self.url = installation.start_web()
        self.head = [
            ("Host", self.url.removeprefix("http://")),
            ("Authorization", f"Token {self.key}"),
        ]
        wait_until(lambda: self.get("/health/live").status == 200, seconds=60, what="the web")

    def get(self, target: str) -> Response:
        try:
            return ask(self.url, written("GET", target, self.head))
        except ConnectionRefusedError:
            return Response(0)

    def failures(self) -> list[str]:
        """Return the errors that it logged, except a refused host and a 503."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [
            line
            for line in lines
            if ('"level":"error"' in line or "Traceback" in line)
            and "DisallowedHost" not in line
            and "Service Unavailable" not in line
        ]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with installed() as installation:
        yield Web(installation)


def test_requests_from_the_description(web: Web, trials: Trials) -> None:
    """Fails when a response is not in the description, for example a 500."""
    keys = {"Authorization": f"Token {web.key}"}

    def send_and_compare(case: Case) -> None:
        case.call_and_validate(base_url=web.url, headers=keys)
        trials.count("requests from the description")

    operations: list[Any] = [found.ok() for found in described().get_all_operations()]  # type: ignore[union-attr]
    for number in trials.of("rounds", short=1, full=60, minutes=5):
        for operation, mode in product(operations, GenerationMode):
            # An operation without parameters has no invalid requests.
            with suppress(Unsatisfiable):
                seed(number)(
                    ONE_ROUND(given(operation.as_strategy(generation_mode=mode))(send_and_compare))
                )()
    assert web.failures() == []


def noise(chance: random.Random, most: int = 40) -> str:
    """Return random bytes as characters, without line ends, which would end a header."""
    found = chance.randbytes(chance.randrange(most)).decode("latin-1")
    return found.replace("\r", "").replace("\n", "")


def random_requests(web: Web, chance: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """Yield method, path and bytes of requests without end, some of them with changed bytes.

    The path is empty if the response can't be compared with the description.
    """
    while True:
        method = chance.choice(["GET"] * 8 + [name.upper() for name in METHODS])
        path = chance.choice(sorted(ALL))
        pairs = [
            f"{chance.choice([*NAMES, 'colour'])}="
            + chance.choice(
                [chance.choice(LIKELY), quote_from_bytes(chance.randbytes(chance.randrange(30)))]
            )
            for _ in range(chance.randrange(5))
        ]
        headers = list(web.head)
        for name in chance.sample(HEADERS, chance.randrange(3)):
            headers = [head for head in headers if head[0] != name]
            headers.append((name, chance.choice([chance.choice(WORDS), noise(chance)])))
        request = written(method, f"{path}?{'&'.join(pairs)}", headers)
        kept = path if all(head in headers for head in web.head) else ""
        if chance.random() < 0.2:
            changed = bytearray(request)
            for _ in range(chance.randrange(1, 6)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            request, kept = bytes(changed), ""
        yield method, kept, request


def checks() -> dict[tuple[str, str, str], Callable[[Any], None]]:
    """Return a validator of the body of each described response, by path, method and status."""
    found = {}
    for (path, method), operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            content = resolved(response).get("content", {}).get("application/json")
            if content is not None:
                schema = {**content["schema"], "components": SCHEMA["components"]}
                check = jsonschema.Draft202012Validator(schema).validate
                found[path.replace("{run_id}", "1"), method.upper(), status] = check
    return found


CHECKS = checks()


def test_requests_of_random_bytes(web: Web, trials: Trials) -> None:
    """Fails when the server responds 500, breaks, or sends a response that is not described."""

    def try_one(parts: tuple[str, str, bytes]) -> None:
        method, path, request = parts
        response = ask(web.url, request)
        assert response.status < 500 or response.status in ALLOWED_ERRORS, (request, response)
        check = CHECKS.get((path, method, str(response.status)))
        if check is not None and response.content_type.startswith("application/json"):
            check(json.loads(response.body))
            trials.count("of them answered as described")
        trials.count("requests of any bytes")

    chance = random.Random(12)
    requests = random_requests(web, chance)
    with ThreadPoolExecutor(4) as threads:
        for _ in trials.of("batches of 500", short=1, full=200, minutes=12):
            some = list(islice(requests, 500 if trials.full else 150))
            for _ in threads.map(try_one, some):
                pass
    assert web.get("/health/live").status == 200
    assert web.failures() == []
