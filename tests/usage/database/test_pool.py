"""A real PgBouncer in transaction mode: the web process uses it, all others connect directly."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.db import connection

from bin import processes
from tests.connections import ask, run_sql, second_session, wait_until
from tests.factories import data_record, make_key, make_subscription, refresh_totals
from tests.given import anna_and_bob
from tests.logins import login_in
from tests.pool import CONNECTIONS, pool_of
from tests.processes import broker_url, database_url, run, started
from tests.usage.api.api_requests import LISTS
from tests.web import Server, serving
from usage.models import RefreshRun, Scope

LIMITS = {"statement_timeout": "15s", "lock_timeout": "5s"}
CLIENTS, TIMES = 6, 4


@pytest.fixture
def usage(only_default_partitions: None) -> None:
    anna_and_bob()
    refresh_totals()


@pytest.fixture
def login(usage: None) -> Iterator[str]:
    """Make a login for the web server, without time limits yet."""
    with login_in("usage_web") as name:
        yield name


@pytest.fixture
def limits(login: str) -> None:
    """Give the login the limits of web requests, before the pool opens connections for it."""
    for name, value in LIMITS.items():
        run_sql(f"ALTER ROLE {login} SET {name} = '{value}'")


@pytest.fixture
def pool(login: str) -> Iterator[str]:
    """Start the pool and return its address."""
    with pool_of(login) as url:
        yield url


@pytest.fixture
def pooled(limits: None, pool: str, broker: redis.Redis, tmp_path: Path) -> Iterator[Server]:
    """Start the web server behind the pool."""
    environment = {
        "DATABASE_URL": pool,
        "DATABASE_DIRECT_URL": database_url(),
        "REDIS_URL": broker_url(broker),
    }
    with serving(tmp_path, **environment) as server:
        yield server


def responses_of(server: Server, key: str, forms: tuple[str, ...]) -> dict[str, Any]:
    """Return the response to every list in these formats, without the as_of of live lists."""
    responses: dict[str, Any] = {}
    for path, query in LISTS.items():
        for form in forms:
            url = f"/api/v1/{path}/?{query}&format={form}".replace("?&", "?")
            status, body, _ = server.get(url, Authorization=f"Token {key}")
            assert status == 200, body
            if form == "csv":
                responses[url] = body
            else:
                envelope = json.loads(body)
                if envelope["live"]:
                    del envelope["as_of"]
                responses[url] = envelope
    return responses


@pytest.mark.one_server("its coordinator connects to itself, so that there are more sessions")
def test_responses_equal_those_of_a_direct_connection(pooled: Server, tmp_path: Path) -> None:
    """Fails when a statement is prepared, a setting is sent, or a cursor outlives its transaction:
    there are more clients than connections of the pool, so that clients share connections."""
    key = make_key(User.objects.create_user("client"))
    (tmp_path / "direct").mkdir()
    with serving(tmp_path / "direct") as direct:
        expected = responses_of(direct, key, ("json",))
        tables = responses_of(direct, key, ("csv",))
    assert len(expected) == len(tables) == len(LISTS)
    with ThreadPoolExecutor(CLIENTS) as clients:
        for responses in clients.map(
            lambda _: responses_of(pooled, key, ("json",)), range(CLIENTS * TIMES)
        ):
            assert responses == expected
    assert responses_of(pooled, key, ("csv",)) == tables
    assert pooled.get("/health/ready")[0] == 200
    with second_session() as session:
        sessions = ask(
            session,
            "SELECT count(*), count(DISTINCT usename) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename <> current_user",
        )
    assert sessions == [(CONNECTIONS, 1)]


def test_a_refresh_is_requested_through_the_pool_and_runs_directly(
    pooled: Server, pool: str, broker: redis.Redis, tmp_path: Path
) -> None:
    """Fails when the worker connects through the pool, whose login may not refresh."""
    key = make_key(User.objects.create_user("operator"), Scope.READ, Scope.REFRESH_RUN)
    record = data_record(make_subscription("carl", id=3), "2026-11-03T10:00:00Z", "5", 1)

    def refreshed() -> bool:
        """Return False if the run was skipped, because the worker first makes partitions."""
        status, body, headers = pooled.get(
            "/api/v1/refreshes/", method="POST", Authorization=f"Token {key}"
        )
        assert status == 202, body
        requested = RefreshRun.objects.filter(pk=headers["Location"].split("/")[-2])
        wait_until(requested.exclude(finished_at=None).exists, seconds=60, what="the run to end")
        run = requested.get()
        assert run.status in {RefreshRun.Status.SUCCESS, RefreshRun.Status.SKIPPED}, run.error
        return run.status == RefreshRun.Status.SUCCESS

    environment = {"DATABASE_URL": pool, "DATABASE_DIRECT_URL": database_url()}
    with started(processes.worker("test@%h"), broker, tmp_path / "worker.log", **environment):
        wait_until(refreshed, seconds=60, what="a refresh")
    url = f"/api/v1/usage/totals/?subscription_id={record.subscription_id}"
    _, body, _ = pooled.get(url, Authorization=f"Token {key}")
    assert json.loads(body)["results"][0]["total_price"] in {"5", "5.00000000"}


def test_a_web_process_without_limits_refuses_to_start(pool: str) -> None:
    """Without limits a statement could take forever, and nobody would notice until one does."""
    refused = run("-c", "import config.wsgi", DATABASE_URL=pool, DATABASE_DIRECT_URL=database_url())
    assert refused.returncode != 0
    assert "ALTER ROLE usage_web_of_a_test SET statement_timeout = '15s'" in refused.stderr


def test_limits_of_the_role_are_lifted_for_commands(limits: None, login: str, pool: str) -> None:
    """Web server and commands may share a login. Fails when a refresh has the time limits of web
    requests."""
    show = (
        "from django.db import connection\n"
        "with connection.cursor() as cursor:\n"
        "    for name in ['statement_timeout', 'lock_timeout']:\n"
        "        cursor.execute(f'SHOW {name}'); print(cursor.fetchone()[0], end=' ')\n"
    )
    ours = connection.settings_dict["USER"]
    direct = database_url().replace(f"//{ours}", f"//{login}", 1)
    environment = {"DATABASE_URL": pool, "DATABASE_DIRECT_URL": direct}
    assert run("-c", f"import config.wsgi\n{show}", **environment).stdout == "15s 5s "
    assert run("manage.py", "shell", "-v", "0", "-c", show, **environment).stdout == "0 0 "
