"""Real servers that freeze (SIGSTOP) under the web process, with open connections."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import psycopg2
import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import OperationalError, connections, transaction
from psycopg2.extensions import set_wait_callback
from pytest_django.plugin import DjangoDbBlocker

from bin.embedded import PostgreSQL
from config import gunicorn
from tests.cluster import NAMES, Cluster, started_cluster
from tests.connections import in_thread, run_sql, wait_until
from tests.factories import make_key, refresh_totals
from tests.faults.killing import family, send
from tests.given import anna_and_bob
from tests.web import Server, serving
from usage.database import membership, read_timeout, routing
from usage.database.read_timeout import SilentServerError, give_up_silent_servers

REPLICA1, REPLICA2 = NAMES
TOTALS = "/api/v1/usage/totals/?subscription_id=1"
CSV = "/api/v1/subscriptions/?format=csv"
# Far more than fits into socket buffers, so that the web server waits for its client.
ROWS = 20_000
THREADS = gunicorn.workers * gunicorn.threads


@pytest.fixture(scope="module")
def cluster(django_db_blocker: DjangoDbBlocker) -> Iterator[Cluster]:
    with django_db_blocker.unblock(), started_cluster() as started:
        anna_and_bob()
        refresh_totals()
        run_sql(
            "INSERT INTO usage_subscription (id, external_id, created_at)"
            " SELECT 10 + number, rpad(number::text, 100, 'x'), now()"
            " FROM generate_series(1, %s) AS number",
            [ROWS],
        )
        yield started


@pytest.fixture
def key(cluster: Cluster) -> str:
    """Make a token that every server knows, and return the header that signs a client in."""
    key = make_key(User.objects.create_user(f"client {time.monotonic_ns()}"))
    cluster.catch_up()
    return f"Token {key}"


@contextmanager
def web(place: Path, replicas: str = "") -> Iterator[Server]:
    """Start the web server with timeouts of seconds instead of a minute."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.short_limits",
        "DATABASE_REPLICA_URL": replicas,
    }
    with serving(place, **environment) as server:
        yield server


@contextmanager
def frozen(server: PostgreSQL) -> Iterator[None]:
    """Stop every process of the server until the end of the block."""
    assert server.process is not None
    processes = family(server.process.pid)
    send(SIGSTOP, processes)
    try:
        yield
    finally:
        send(SIGCONT, processes)


def crowd(server: Server, path: str, key: str) -> list[tuple[int, Any]]:
    """Send as many concurrent requests as the web server has threads; return statuses and bodies.

    The timeout of each request is 20 s.
    """

    def get(_number: int) -> tuple[int, Any]:
        status, body, _ = server.get(path, Authorization=key)
        return status, json.loads(body)

    with ThreadPoolExecutor(THREADS) as clients:
        return list(clients.map(get, range(THREADS)))


def is_unavailable(response: tuple[int, Any]) -> bool:
    status, body = response
    return (status, body["errors"][0]["code"]) == (503, "database_unavailable")


def test_a_frozen_replica_is_left_out(cluster: Cluster, key: str, tmp_path: Path) -> None:
    """Fails when nothing ends the wait for the replica: clients then time out."""
    replica = cluster.replicas[REPLICA1]
    with web(tmp_path, replica.url()) as server:
        expected = crowd(server, TOTALS, key)
        assert {status for status, _ in expected} == {200}
        with frozen(replica):
            assert crowd(server, TOTALS, key) == expected
        log = server.log.read_text()
        assert "The server replica1 is left out" in log
        assert "did not respond in time" in log

        def is_available_again() -> bool:
            assert crowd(server, TOTALS, key) == expected
            return "The server replica1 is available again" in server.log.read_text()

        wait_until(is_available_again, seconds=60, what="the replica to be tried again")


def test_replicas_serve_reads_while_the_primary_is_frozen(
    cluster: Cluster, key: str, tmp_path: Path
) -> None:
    """Fails when signing in waits for the primary without limit."""
    with web(tmp_path, cluster.replicas[REPLICA1].url()) as server:
        expected = crowd(server, TOTALS, key)
        with frozen(cluster.primary):
            assert crowd(server, TOTALS, key) == expected
            status, body, _ = server.get(f"{TOTALS}&live=true", Authorization=key)
            assert is_unavailable((status, json.loads(body)))
            assert server.get("/health/live")[0] == 200
        wait_until(
            lambda: server.get(f"{TOTALS}&live=true", Authorization=key)[0] == 200,
            seconds=30,
            what="the primary",
        )


def test_a_frozen_primary_without_replicas_is_unavailable(
    cluster: Cluster, key: str, tmp_path: Path
) -> None:
    """Fails when a thread that waits for the primary never serves again."""
    with web(tmp_path) as server:
        expected = crowd(server, TOTALS, key)
        with frozen(cluster.primary):
            with in_thread(lambda: crowd(server, TOTALS, key)) as responses:
                assert server.get("/health/live")[0] == 200
            assert all(map(is_unavailable, responses.result()))
        wait_until(
            lambda: server.get(TOTALS, Authorization=key)[0] == 200, seconds=30, what="the primary"
        )
        assert crowd(server, TOTALS, key) == expected


def test_a_running_csv_download_breaks_off(cluster: Cluster, key: str, tmp_path: Path) -> None:
    """Fails when the web server waits for the next rows without limit, also in a transaction."""
    with web(tmp_path) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        client.request("GET", CSV, headers={"Authorization": key})
        response = client.getresponse()
        assert response.status == 200
        with frozen(cluster.primary), pytest.raises(http.client.IncompleteRead) as broken:
            response.read()
        assert 0 < broken.value.partial.count(b"\r\n") < ROWS
        client.close()


@pytest.fixture
def limits(
    cluster: Cluster, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Set read timeouts here too: 1 s, to connect 2 s, in the transaction of a CSV 30 s."""
    settings.WEB_STATEMENT_TIMEOUT_SECONDS = 1
    settings.DOWNLOAD_STATEMENT_TIMEOUT_SECONDS = 30
    monkeypatch.setattr(read_timeout, "GRACE_SECONDS", 0)
    monkeypatch.setattr(routing, "_left_out", {})
    give_up_silent_servers()
    yield
    set_wait_callback(None)
    for name in [routing.PRIMARY, *NAMES]:
        connections[name].close()


@pytest.mark.usefixtures("limits")
def test_a_silent_server_is_tried_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a read that timed out is repeated on a new connection to the same server."""
    monkeypatch.setattr(membership, "COMPARE_SECONDS", 1000)
    tried = []

    def read_here() -> int:
        tried.append(routing.current())
        with connections[routing.current()].cursor() as cursor:
            cursor.execute("SELECT 7")
            (number,) = cursor.fetchone()
        return int(number)

    routing.read(read_here, first=REPLICA1)
    with frozen(cluster.replicas[REPLICA1]):
        assert routing.read(read_here, first=REPLICA1) == 7
    assert tried[1:3] == [REPLICA1, tried[2]]
    assert tried[2] != REPLICA1


@pytest.mark.usefixtures("limits")
def test_a_left_out_server_is_tried_on_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when a thread tries its old connection, whose timeout is that of a statement."""
    monkeypatch.setattr(routing, "_left_out", {REPLICA1: time.monotonic() - 1})
    connections[REPLICA1].ensure_connection()
    kept = connections[REPLICA1].connection
    assert routing.read(routing.current, first=REPLICA1) == REPLICA1
    assert kept.closed


@pytest.mark.usefixtures("limits")
def test_a_connection_that_was_given_up_is_closed(cluster: Cluster) -> None:
    """Fails when a late response could be read as the response to the next statement."""
    connections[REPLICA2].ensure_connection()
    given_up = connections[REPLICA2].connection
    with connections[REPLICA2].cursor() as cursor, pytest.raises(OperationalError) as error:
        cursor.execute("SELECT pg_sleep(2)")
    assert isinstance(error.value.__cause__, SilentServerError)
    assert given_up.closed


@pytest.mark.usefixtures("limits")
def test_a_statement_of_a_csv_may_take_its_own_time() -> None:
    """Fails when a CSV statement has the shorter timeout of other statements."""
    with transaction.atomic(using=REPLICA2), connections[REPLICA2].cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT pg_sleep(2)")


@pytest.mark.usefixtures("limits")
def test_connecting_has_the_limit_of_its_address(cluster: Cluster) -> None:
    """The driver does not apply connect_timeout in this mode. Fails when a connection has the
    timeout of a statement, or none."""
    connect = partial(psycopg2.connect, cluster.replicas[REPLICA2].url(), connect_timeout=2)
    with frozen(cluster.replicas[REPLICA2]):
        began = time.monotonic()
        with pytest.raises(SilentServerError):
            connect()
        assert time.monotonic() - began >= 2
    connect().close()
