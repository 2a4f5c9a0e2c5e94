"""A CSV sent by the web server: complete, or visibly incomplete."""

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from bin import processes
from tests.connections import run_sql, wait_until
from tests.factories import make_key
from tests.processes import ROOT, database_url

# Far more than socket buffers hold, so the server waits for the client.
ROWS = 20_000
DOWNLOADS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'FETCH FORWARD%'"
    " AND state = 'idle in transaction'"
)


class Connection(http.client.HTTPConnection):
    """A connection to a server at a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


@pytest.fixture
def server(state: None) -> Iterator[Path]:
    """Run the web server of bin/serve on the test database, at a unix socket."""
    with TemporaryDirectory() as directory:
        place = Path(directory, "web")
        process = subprocess.Popen(
            processes.under(sys.executable, processes.web(f"unix:{place}")),
            cwd=ROOT,
            env={
                **os.environ,
                "DATABASE_URL": database_url(),
                "DJANGO_SETTINGS_MODULE": "tests.impatient_settings",
            },
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(place.exists, seconds=30, what="the web server")
            yield place
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def many_subscriptions(state: None) -> None:
    run_sql(
        "INSERT INTO usage_subscription (external_id, created_at)"
        " SELECT rpad(number::text, 100, 'x'), now() FROM generate_series(1, %s) AS number",
        [ROWS],
    )


def csv_response(server: Path) -> http.client.HTTPResponse:
    return _requested(server)[1]


def request_csv(server: Path) -> tuple[Connection, http.client.HTTPResponse]:
    connection, response = _requested(server)
    assert response.status == 200
    assert response.readline() == b"subscription_id,external_id,created_at\r\n"
    return connection, response


def _requested(server: Path) -> tuple[Connection, http.client.HTTPResponse]:
    key = make_key(get_user_model().objects.get_or_create(username="client")[0])
    connection = Connection(server)
    connection.request(
        "GET", "/api/v1/subscriptions/?format=csv", headers={"Authorization": f"Token {key}"}
    )
    return connection, connection.getresponse()


def downloads() -> list[tuple[Any, ...]]:
    return run_sql(f"SELECT pid {DOWNLOADS}")


@pytest.mark.usefixtures("many_subscriptions")
def test_a_csv_whose_rows_end_early_is_seen_to_be_incomplete(server: Path) -> None:
    _, response = request_csv(server)
    wait_until(downloads, what="a server that waits for its client")
    assert run_sql(f"SELECT pg_terminate_backend(pid) {DOWNLOADS}") == [(True,)]
    with pytest.raises(http.client.IncompleteRead) as broken:
        response.read()
    assert 0 < broken.value.partial.count(b"\r\n") < ROWS
    _, response = request_csv(server)
    assert response.read().count(b"\r\n") == ROWS


@pytest.mark.usefixtures("many_subscriptions")
def test_a_client_that_disconnects_ends_the_transaction(server: Path) -> None:
    connection, response = request_csv(server)
    wait_until(downloads, what="a server that waits for its client")
    response.close()
    connection.close()
    wait_until(lambda: not downloads(), what="the end of the transaction")


@pytest.mark.usefixtures("many_subscriptions")
def test_a_client_that_reads_nothing_loses_its_slot(server: Path) -> None:
    """Fails when only the database has a timeout: the thread would wait forever to send."""
    stalled = [_requested(server) for _ in range(16)]
    wait_until(lambda: not downloads(), what="the end of their transactions")

    def is_served() -> bool:
        response = csv_response(server)
        return response.status == 200 and response.read().count(b"\r\n") == ROWS + 1

    wait_until(is_served, what="a free slot")
    for connection, response in stalled:
        response.close()
        connection.close()
