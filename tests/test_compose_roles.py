"""The roles that the script in docker-compose.yml makes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from bin.embedded import PORT, SUPERUSER, PostgreSQL
from tests.processes import run
from tests.test_compose import COMPOSE, SERVICES
from tests.usage.monitoring.scraping import TOKEN, samples, value
from tests.web import serving

USAGE = "/api/v1/usage/totals/"


class Composed(PostgreSQL):
    """A new server whose roles are made by the script of the service `db`."""

    def _make_roles(self) -> None:
        script = COMPOSE["configs"]["database-roles"]["content"].replace("$$", "$")
        subprocess.run(
            ["/bin/sh", "-c", script],
            env={
                "PATH": f"{self.programs}:{os.defpath}",
                "PGHOST": str(self.socket),
                "PGPORT": str(PORT),
                "USAGE_PASSWORD": "of'the owner",
                "WEB_PASSWORD": "of'the web server",
            },
            check=True,
            timeout=60,
        )


@pytest.fixture
def server(place: Path) -> Iterator[PostgreSQL]:
    made = Composed(place, place / "postgresql.log", thrown_away=True)
    if not (made.programs / "psql").exists():
        pytest.skip(f"there is no psql in {made.programs}")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def manage(server: PostgreSQL, *arguments: str) -> str:
    """Run manage.py as the owner and return its output."""
    done = run("manage.py", *arguments, DATABASE_URL=server.url())
    assert done.returncode == 0, done.stderr
    return done.stdout


def query(server: PostgreSQL, user: str, statement: str) -> list[Any]:
    session = psycopg2.connect(host=str(server.socket), port=PORT, user=user, dbname="usage")
    try:
        with session, session.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        session.close()


def test_the_web_server_responds_and_may_change_no_record(
    server: PostgreSQL, tmp_path: Path
) -> None:
    manage(server, "migrate", "--noinput")
    manage(server, "check", "--database", "default", "--fail-level", "WARNING")
    sample = ["--subscriptions", "2", "--days", "2", "--records", "20"]
    manage(server, "generate_usage", *sample)
    manage(server, "refresh_usage")
    made = manage(
        server,
        *("make_token", "client", "--new-user", "--name", "test", "--scope", "usage:read"),
        *("--scope", "refresh:run"),
    )
    bearer = {"Authorization": f"Bearer {made.splitlines()[-1]}"}
    with serving(tmp_path, DATABASE_URL=server.url("web"), USAGE_TIME_ZONE="UTC") as web:
        status, body, _ = web.get(USAGE, **bearer)
        assert (status, b'"record_count"' in body) == (200, True)
        assert web.get("/api/v1/refreshes/", method="POST", **bearer)[0] == 202
        found = samples(web.get("/metrics", Authorization=f"Bearer {TOKEN}")[1].decode())
        assert value(found, "usage_database_up") == 1
    for forbidden in [
        "DELETE FROM usage_datausagerecord RETURNING 1",
        "UPDATE usage_state SET as_of = now() RETURNING 1",
        "SELECT 1 FROM pg_authid",
        "DROP TABLE usage_voiceusagerecord",
    ]:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(server, "web", forbidden)


def test_both_logins_have_the_passwords_of_the_environment(server: PostgreSQL) -> None:
    logins = query(
        server,
        SUPERUSER,
        "SELECT rolname, rolpassword LIKE 'SCRAM-SHA-256$%', rolsuper, rolcreaterole FROM pg_authid"
        " WHERE rolcanlogin AND rolname <> 'postgres' ORDER BY rolname",
    )
    assert logins == [("usage", True, False, True), ("web", True, False, False)]


def test_only_the_web_server_logs_in_as_web_and_it_has_no_password_of_the_owner() -> None:
    for service in ("migrate", "worker", "beat"):
        environment = SERVICES[service]["environment"]
        assert environment["DATABASE_URL"].startswith("postgresql://usage:${DATABASE_PASSWORD:?")
        assert "DATABASE_WEB_PASSWORD" not in str(environment)
    web = SERVICES["web"]["environment"]
    assert web["DATABASE_URL"].startswith("postgresql://web:${DATABASE_WEB_PASSWORD:?")
    assert "{DATABASE_PASSWORD" not in str(web)
    # Only the other services get a direct address that is set, since it has the owner's password.
    assert web["DATABASE_DIRECT_URL"] == "${DATABASE_DIRECT_URL:+postgresql://web@db:5432/usage}"


def test_every_database_server_has_both_logins() -> None:
    contents = {name: COMPOSE["configs"][name]["content"] for name in COMPOSE["configs"]}
    roles = [
        [line for line in contents[name].splitlines() if line.startswith("CREATE ROLE")]
        for name in ("database-roles", "citus-roles")
    ]
    assert roles[0] == roles[1]
    assert len(roles[0]) == 3
    for name in ("db", "coordinator", "worker-1", "worker-2"):
        assert {"USAGE_PASSWORD", "WEB_PASSWORD"} <= set(SERVICES[name]["environment"])
