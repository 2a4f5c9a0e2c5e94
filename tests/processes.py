"""Processes of the project, started as an operator starts them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import redis
from django.conf import settings
from django.db import connection
from psycopg2 import errors, sql

from bin import processes
from tests.connections import second_session, wait_until

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run python with these arguments in the project; `environment` adds variables."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def database_url(name: str | None = None) -> str:
    """Return the DATABASE_URL of the test database, or of another one on the same server."""
    address = connection.settings_dict
    user, password, host = (
        quote(address[part] or "", safe="") for part in ["USER", "PASSWORD", "HOST"]
    )
    secret = f":{password}" if password else ""
    port = f":{address['PORT']}" if address["PORT"] else ""
    return f"postgresql://{user}{secret}@{host}{port}/{name or address['NAME']}"


def broker_url(broker: redis.Redis) -> str:
    """Return the REDIS_URL of the database that the client uses."""
    number = broker.get_connection_kwargs()["db"]
    return urlsplit(settings.REDIS_URL)._replace(path=f"/{number}").geturl()


@contextmanager
def scratch_database() -> Iterator[str]:
    """Yield the name of a new empty database; drop it at the end."""
    name = f"test_usage_scratch_{uuid4().hex[:12]}"
    with second_session(autocommit=True, dbname="postgres") as session, session.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            wait_until(lambda: _drop(cursor, name), what=f"{name} to be dropped")


def _drop(cursor: Any, name: str) -> bool:
    """Drop a database and end its sessions; return False while autovacuum works in it."""
    try:
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    except errors.InsufficientPrivilege:
        return False
    return True


@contextmanager
def started(
    command: list[str], broker: redis.Redis, log: Path, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process of the project, with a refresh every second; end it with SIGTERM."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "REDIS_URL": broker_url(broker),
        "USAGE_REFRESH_SECONDS": "1",
        "USAGE_TIME_ZONE": settings.USAGE_TIME_ZONE,
        **environment,
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            processes.under(sys.executable, command),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
