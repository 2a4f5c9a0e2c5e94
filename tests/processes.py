"""Processes of the project, run as an operator runs them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from django.db import connection
from psycopg2 import sql

from tests.connections import second_session

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run python with these arguments in the project; the environment is added to ours."""
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
    """The DATABASE_URL of the test database, or of another one on the same server."""
    settings = connection.settings_dict
    user, password, host = (
        quote(settings[part] or "", safe="") for part in ["USER", "PASSWORD", "HOST"]
    )
    secret = f":{password}" if password else ""
    port = f":{settings['PORT']}" if settings["PORT"] else ""
    return f"postgresql://{user}{secret}@{host}{port}/{name or settings['NAME']}"


@contextmanager
def scratch_database() -> Iterator[str]:
    """The name of an empty database that is dropped at the end."""
    name = f"test_usage_scratch_{uuid4().hex[:12]}"
    with second_session(autocommit=True, dbname="postgres") as session, session.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
