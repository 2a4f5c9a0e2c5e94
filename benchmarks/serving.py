"""Web servers on the database of the benchmark: Gunicorn by the command of bin/processes.py."""

import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from signal import SIGTERM
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.db import connection

from benchmarks.raw import one
from bin import processes, spawn
from bin.broker import ADDRESS, free_port
from usage.models import Scope
from usage.services.accounts import tokens

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
IDLE_SECONDS = 120


@dataclass(frozen=True)
class Response:
    """A complete response of a server."""

    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the JSON of the body."""
        value: dict[str, Any] = json.loads(self.body)
        return value


@dataclass(frozen=True)
class Server:
    """A web server on this machine; every request to it has these headers."""

    port: int
    headers: dict[str, str]

    @property
    def address(self) -> str:
        return f"http://{ADDRESS}:{self.port}"

    def get(self, path: str, headers: dict[str, str] | None = None) -> Response:
        """Send a request over a new connection and return the response."""
        with closing(HTTPConnection(ADDRESS, self.port, timeout=60)) as client:
            client.request("GET", path, headers=self.headers | (headers or {}))
            response = client.getresponse()
            return Response(response.status, response.headers, response.read())


def make_token() -> str:
    """Make a user with a token that may read all usage, and return its key."""
    _, key = tokens.make_token(
        user=get_user_model().objects.create_user("benchmark"),
        name="benchmark",
        scopes=[Scope.READ],
    )
    return key


@contextmanager
def serve(
    settings_module: str, headers: dict[str, str] | None = None, *, first: str, **variables: str
) -> Iterator[Server]:
    """Run a server with these settings and variables of the environment; yield it once the path
    `first` returns 200."""
    port = free_port(8700)
    environment = production(DJANGO_SETTINGS_MODULE=settings_module, **variables)
    with tempfile.NamedTemporaryFile() as log:
        process = spawn.spawn(
            processes.under(sys.executable, processes.web(f"{ADDRESS}:{port}")),
            directory=ROOT,
            output=log.fileno(),
            environment=environment,
        )
        try:
            server = Server(port, headers or {})
            _wait(server, first, Path(log.name))
            yield server
        finally:
            spawn.end(process, (SIGTERM, 25.0))


def wait_until_idle() -> None:
    """Wait until no session of the database is busy: queries run on after their client has left."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND state <> 'idle' AND pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + IDLE_SECONDS
    while one(busy):
        if time.monotonic() > deadline:
            raise RuntimeError(f"Sessions of the database are still busy after {IDLE_SECONDS} s.")
        time.sleep(0.1)


def _wait(server: Server, path: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            status = server.get(path).status
        except OSError:
            status = 0
        if status == 200:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} returns {status}; the log:" + spawn.last_lines(log))
        time.sleep(0.2)


def production(**variables: str) -> dict[str, str]:
    """Return the environment for processes that use the database of the benchmark."""
    address = urlsplit(os.environ["DATABASE_URL"])
    database = connection.settings_dict["NAME"]
    return {
        **os.environ,
        "DJANGO_DEBUG": "0",
        "DJANGO_PLAIN_HTTP": "1",
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
        "USAGE_ADDRESS_REQUESTS_PER_MINUTE": "1000000000",
        "USAGE_TOKEN_REQUESTS_PER_MINUTE": "1000000000",
        "DATABASE_URL": address._replace(path=f"/{database}").geturl(),
        **variables,
    }
