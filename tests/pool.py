"""A PgBouncer in front of the test database."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from signal import SIGINT
from urllib.parse import quote

import psycopg2
import pytest
from django.db import connection

from bin import place as places
from bin import spawn
from tests.connections import wait_until

PORT = 6432
# Fewer connections than clients, so that clients keep getting connections of other clients.
CONNECTIONS = 2


@contextmanager
def pool_of(login: str) -> Iterator[str]:
    """Yield the URL of a pool in transaction mode for this login, with Django's password."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        pytest.skip("no PgBouncer on this machine (Debian: apt install pgbouncer)")
    account = places.server_account()
    here = places.passing_place(account)
    address = connection.settings_dict
    password = address["PASSWORD"] or ""
    (here / "users").write_text(f'"{login}" "{password}"\n')
    (here / "pgbouncer.ini").write_text(
        f"""
        [databases]
        * = host={address["HOST"]} port={address["PORT"] or 5432}
        [pgbouncer]
        unix_socket_dir = {here}
        listen_port = {PORT}
        auth_type = trust
        auth_file = {here}/users
        pool_mode = transaction
        default_pool_size = {CONNECTIONS}
        """.replace("\n        ", "\n")
    )
    process = None
    try:
        with (here / "log").open("wb") as output:
            process = spawn.spawn(
                [program, str(here / "pgbouncer.ini")],
                directory=here,
                output=output,
                account=account,
            )
        host = quote(str(here), safe="")
        url = f"postgresql://{login}@{host}:{PORT}/{address['NAME']}"
        wait_until(lambda: _responds(url), what="PgBouncer to respond")
        yield url
    finally:
        if process is not None:
            spawn.end(process, (SIGINT, 10.0))
        shutil.rmtree(here)


def _responds(url: str) -> bool:
    try:
        with closing(psycopg2.connect(url)):
            return True
    except psycopg2.OperationalError:
        return False
