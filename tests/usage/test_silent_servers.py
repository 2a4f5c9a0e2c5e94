"""Real servers that stand still (SIGSTOP) under the web process, their connections open."""

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
from usage.services import membership, servers, silence
from usage.services.silence import SilentServerError, give_up_silent_servers

REPLICA1, REPLICA2 = NAMES
TOTALS = "/api/v1/usage/totals/?subscription_id=1"
CSV = "/api/v1/subscriptions/?format=csv"
# Far more than socket buffers take: the web server waits for its client.
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
    """What signs a client in, on every server."""
    key = make_key(User.objects.create_user(f"client {time.monotonic_ns()}"))
    cluster.catch_up()
    return f"Token {key}"


@contextmanager
def web(place: Path, replicas: str = "") -> Iterator[Server]:
    """The web server, which waits for seconds where it would wait for a minute."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.short_limits",
        "DATABASE_REPLICA_URL": replicas,
    }
    with serving(place, **environment) as server:
        yield server


@contextmanager
def standing_still(server: PostgreSQL) -> Iterator[None]:
    """Every process of the server is stopped until the end of the block."""
    assert server.process is not None
    processes = family(server.process.pid)
    send(SIGSTOP, processes)
    try:
        yield
    finally:
        send(SIGCONT, processes)


def crowd(server: Server, path: str, key: str) -> list[tuple[int, Any]]:
    """Statuses and answers of as many requests at once as there are threads; none is waited for
    longer than 20 s."""

    def get(_number: int) -> tuple[int, Any]:
        status, body, _ = server.get(path, Authorization=key)
        return status, json.loads(body)

    with ThreadPoolExecutor(THREADS) as clients:
        return list(clients.map(get, range(THREADS)))


def is_unavailable(answer: tuple[int, Any]) -> bool:
    status, body = answer
    return (status, body["errors"][0]["code"]) == (503, "database_unavailable")


def test_a_replica_that_stands_still_is_left_out(
    cluster: Cluster, key: str, tmp_path: Path
) -> None:
    """Fails when nothing ends the wait for it: clients then leave without an answer."""
    replica = cluster.replicas[REPLICA1]
    with web(tmp_path, replica.url()) as server:
        expected = crowd(server, TOTALS, key)
        assert {status for status, _ in expected} == {200}
        with standing_still(replica):
            assert crowd(server, TOTALS, key) == expected
        said = server.log.read_text()
        assert "The server replica1 is left out" in said
        assert "says nothing, so it was given up" in said

        def is_asked_again() -> bool:
            assert crowd(server, TOTALS, key) == expected
            return "The server replica1 answers again" in server.log.read_text()

        wait_until(is_asked_again, seconds=60, what="the replica to be asked again")


def test_while_the_primary_stands_still_replicas_answer(
    cluster: Cluster, key: str, tmp_path: Path
) -> None:
    """As when it is away; fails when signing in waits for it without limit."""
    with web(tmp_path, cluster.replicas[REPLICA1].url()) as server:
        expected = crowd(server, TOTALS, key)
        with standing_still(cluster.primary):
            assert crowd(server, TOTALS, key) == expected
            status, body, _ = server.get(f"{TOTALS}&live=true", Authorization=key)
            assert is_unavailable((status, json.loads(body)))
            assert server.get("/health/live")[0] == 200
        wait_until(
            lambda: server.get(f"{TOTALS}&live=true", Authorization=key)[0] == 200,
            seconds=30,
            what="the primary",
        )


def test_a_primary_alone_that_stands_still_is_unavailable(
    cluster: Cluster, key: str, tmp_path: Path
) -> None:
    """Fails when a thread that has asked it is lost."""
    with web(tmp_path) as server:
        expected = crowd(server, TOTALS, key)
        with standing_still(cluster.primary):
            with in_thread(lambda: crowd(server, TOTALS, key)) as asked:
                assert server.get("/health/live")[0] == 200
            assert all(map(is_unavailable, asked.result()))
        wait_until(
            lambda: server.get(TOTALS, Authorization=key)[0] == 200, seconds=30, what="the primary"
        )
        assert crowd(server, TOTALS, key) == expected


def test_a_csv_under_way_is_broken_off(cluster: Cluster, key: str, tmp_path: Path) -> None:
    """Fails when the next rows are waited for without limit, in a transaction too."""
    with web(tmp_path) as server:
        asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        asked.request("GET", CSV, headers={"Authorization": key})
        response = asked.getresponse()
        assert response.status == 200
        with standing_still(cluster.primary), pytest.raises(http.client.IncompleteRead) as broken:
            response.read()
        assert 0 < broken.value.partial.count(b"\r\n") < ROWS
        asked.close()


@pytest.fixture
def limits(
    cluster: Cluster, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Silence has a limit in this process too: a second, of a connection 2, of a CSV 30."""
    settings.WEB_STATEMENT_TIMEOUT_SECONDS = 1
    settings.DOWNLOAD_STATEMENT_TIMEOUT_SECONDS = 30
    monkeypatch.setattr(silence, "GRACE_SECONDS", 0)
    monkeypatch.setattr(servers, "_left_out", {})
    give_up_silent_servers()
    yield
    set_wait_callback(None)
    for name in [servers.PRIMARY, *NAMES]:
        connections[name].close()


@pytest.mark.usefixtures("limits")
def test_a_server_that_says_nothing_is_asked_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a wait that had no end is begun again on a new connection."""
    monkeypatch.setattr(membership, "COMPARE_SECONDS", 1000)
    asked = []

    def ask_here() -> int:
        asked.append(servers.current())
        with connections[servers.current()].cursor() as cursor:
            cursor.execute("SELECT 7")
            (number,) = cursor.fetchone()
        return int(number)

    servers.read(ask_here, first=REPLICA1)
    with standing_still(cluster.replicas[REPLICA1]):
        assert servers.read(ask_here, first=REPLICA1) == 7
    assert asked[1:3] == [REPLICA1, asked[2]]
    assert asked[2] != REPLICA1


@pytest.mark.usefixtures("limits")
def test_a_server_that_was_left_out_is_asked_by_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when a thread waits for its kept connection as long as for an answer."""
    monkeypatch.setattr(servers, "_left_out", {REPLICA1: time.monotonic() - 1})
    connections[REPLICA1].ensure_connection()
    kept = connections[REPLICA1].connection
    assert servers.read(servers.current, first=REPLICA1) == REPLICA1
    assert kept.closed


@pytest.mark.usefixtures("limits")
def test_a_connection_that_was_given_up_is_closed(cluster: Cluster) -> None:
    """Fails when an answer that comes late could be taken for that of the next question."""
    connections[REPLICA2].ensure_connection()
    given_up = connections[REPLICA2].connection
    with connections[REPLICA2].cursor() as cursor, pytest.raises(OperationalError) as error:
        cursor.execute("SELECT pg_sleep(2)")
    assert isinstance(error.value.__cause__, SilentServerError)
    assert given_up.closed


@pytest.mark.usefixtures("limits")
def test_a_statement_of_a_csv_may_take_its_own_time() -> None:
    """Fails when rows that are long in coming are taken for silence."""
    with transaction.atomic(using=REPLICA2), connections[REPLICA2].cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT pg_sleep(2)")


@pytest.mark.usefixtures("limits")
def test_connecting_has_the_limit_of_its_address(cluster: Cluster) -> None:
    """The driver leaves it to who waits; fails when it is that of a statement, or none."""
    connect = partial(psycopg2.connect, cluster.replicas[REPLICA2].url(), connect_timeout=2)
    with standing_still(cluster.replicas[REPLICA2]):
        began = time.monotonic()
        with pytest.raises(SilentServerError):
            connect()
        assert time.monotonic() - began >= 2
    connect().close()
