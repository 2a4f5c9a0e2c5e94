"""A whole installation that a test may break, with its own servers and processes."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from bin import place as places
from bin import processes, spawn
from bin.broker import ADDRESS, Valkey, free_port
from bin.embedded import PORT, PostgreSQL

ROOT = Path(__file__).resolve().parents[2]
POLITELY = ((signal.SIGTERM, 20.0),)


@contextmanager
def installed(settings: Mapping[str, str] | None = None) -> "Iterator[Installation]":
    """Yield an installation in a new directory; remove it at the end."""
    place = places.passing_place(places.server_account())
    try:
        with Installation(place, settings) as made:
            yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Installation:
    """A durable PostgreSQL, a Valkey, and the processes of the project that a test starts.

    The PostgreSQL server gets `settings`, every process of the project `environment`. All of them
    are ended at the end.
    """

    def __init__(self, place: Path, settings: Mapping[str, str] | None = None) -> None:
        self.place = place
        self.database = PostgreSQL(place, place / "postgresql.log")
        self.database.settings = {**self.database.settings, **(settings or {})}
        self.broker = Valkey(place, place / "valkey.log", secrets.token_urlsafe(24))
        self.environment: dict[str, str] = {}
        self.started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Installation":
        try:
            self.database.start()
            self.broker.start()
            self.environment = {
                **os.environ,
                "DATABASE_URL": self.database.url(),
                "REDIS_URL": self.broker.url,
                "DJANGO_PLAIN_HTTP": "1",
                "USAGE_OPEN_DAYS": "2",
                "USAGE_REFRESH_SECONDS": "1",
            }
            self.manage("migrate", "--noinput")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process and both servers."""
        for process in reversed(self.started):
            self.end(process)
        self.broker.stop()
        self.database.stop()

    def manage(self, *arguments: str, exits: int = 0, **environment: str) -> str:
        """Run a command of manage.py and return its output; fail on another exit code."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == exits, f"{arguments} exits {done.returncode}: {done.stderr}"
        return done.stdout

    def start(
        self, command: Sequence[str], log: str, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a command of bin/processes.py, with its output in the log in `place`."""
        with (self.place / log).open("ab") as output:
            process = spawn.spawn(
                processes.under(sys.executable, command),
                directory=ROOT,
                output=output,
                environment={**self.environment, **environment},
            )
        self.started.append(process)
        return process

    def start_web(self, **environment: str) -> tuple[subprocess.Popen[bytes], str]:
        """Start gunicorn at a free port and return its address; it may need seconds to respond."""
        address = f"{ADDRESS}:{free_port()}"
        return self.start(processes.web(address), "web.log", **environment), f"http://{address}"

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """End a process that was started here, also a frozen one."""
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
        spawn.end(process, *POLITELY)

    @contextmanager
    def session(self, **overrides: Any) -> Iterator[Connection]:
        """Yield a session of the application's role, in autocommit."""
        named: dict[str, Any] = {"user": "usage", "dbname": "usage", **overrides}
        session = psycopg2.connect(
            **named, host=str(self.database.socket), port=PORT, connect_timeout=5
        )
        session.autocommit = True
        try:
            yield session
        finally:
            session.close()
