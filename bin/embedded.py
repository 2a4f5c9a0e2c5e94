"""The embedded PostgreSQL server: create, start, recover after a kill, and stop."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from bin import place as places
from bin import programs, spawn
from bin.server_settings import LASTING, THROWN_AWAY
from bin.spawn import LauncherError

SUPERUSER = "postgres"
PORT = 5432
# Above every process id, so the server sees that the process in the lock file has ended.
NO_PROCESS = 2_147_483_647
RETRY_SECONDS = 10
RECOVERY_SECONDS = 600
FAST_THEN_IMMEDIATE = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))


class PostgreSQL:
    """A server with its data directory, and a unix socket in a private directory.

    The application's role `usage` owns the database `usage`. It may create databases and roles and
    is not a superuser.
    """

    name = "PostgreSQL"

    def __init__(self, place: Path, log: Path, *, thrown_away: bool = False) -> None:
        self.log = log
        self.data = place.resolve() / "postgres"
        self.account = places.server_account(self.data)
        self.programs = programs.postgres_programs(place, self.account)
        self.version = programs.version(self.programs)
        self.socket = places.socket_directory(place.resolve(), self.account)
        self.settings = THROWN_AWAY if thrown_away else LASTING
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, role: str = "usage") -> str:
        """Return the address of the database `usage` for Django and psql."""
        return f"postgresql://{role}@{quote(str(self.socket), safe='')}:{PORT}/usage"

    def variables(self) -> dict[str, str]:
        """Return the environment in which processes use this server, without replicas."""
        others = dict.fromkeys(("DATABASE_REPLICA_URL", "DATABASE_DIRECT_URL"), "")
        return {"DATABASE_URL": self.url(), **others}

    def start(self) -> None:
        """Start the server and wait until it answers; create a missing data directory."""
        self.stop()
        self._end_orphan()
        if not self.data.exists():
            self._make_data()
        places.hand_over(self.data, self.account)
        self._refuse_another_version()
        deadline = time.monotonic() + RETRY_SECONDS
        # Backends of a killed server hold its shared memory for a moment, and a new one exits.
        while not self._launch():
            if time.monotonic() > deadline:
                raise LauncherError(
                    f"PostgreSQL {self.version} does not start; {self.log} ends with:"
                    + spawn.last_lines(self.log)
                )
            time.sleep(0.5)
        self._make_roles()

    def alive(self) -> bool:
        """Return whether the server still runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Stop the server by a fast shutdown, which rolls back open transactions."""
        if self.process is not None:
            spawn.end(self.process, *FAST_THEN_IMMEDIATE)
            self.process = None
        linked = self.data.with_name("socket")
        if linked.is_symlink():
            shutil.rmtree(self.socket, ignore_errors=True)

    def connect(self, database: str = "postgres") -> "psycopg2.extensions.connection":
        """Return a connection of the superuser in autocommit."""
        connection = psycopg2.connect(
            host=str(self.socket),
            port=PORT,
            user=SUPERUSER,
            dbname=database,
            password="",
            connect_timeout=5,
        )
        connection.autocommit = True
        return connection

    def _command(self) -> list[str]:
        settings = {**self.settings, "unix_socket_directories": str(self.socket)}
        named = [word for item in settings.items() for word in ("-c", "=".join(item))]
        return [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(PORT), *named]

    def _is_ours(self, command: list[str]) -> bool:
        return str(self.data) in command and Path(command[0]).name == "postgres"

    def _launch(self) -> bool:
        """Start the server once; return whether it accepts connections, False if it exited."""
        places.give(self.socket, self.account)
        with self.log.open("ab") as output:
            self.process = spawn.spawn(
                self._command(),
                directory=self.data.parent,
                output=output,
                environment=server_environment(),
                account=self.account,
                on_parent_death=signal.SIGINT,
            )
        deadline = time.monotonic() + RECOVERY_SECONDS
        while self.process.poll() is None:
            try:
                self.connect().close()
            except psycopg2.OperationalError as error:
                if time.monotonic() > deadline:
                    self.stop()
                    raise LauncherError(f"PostgreSQL does not answer: {error}") from error
                time.sleep(0.05)
            else:
                return True
        return False

    def _make_data(self) -> None:
        """Create the data directory, in place of an incomplete one of an interrupted start."""
        draft = self.data.with_name("postgres.new")
        if draft.exists():
            shutil.rmtree(draft)
        places.give(draft, self.account)
        locale = ["--locale=C.UTF-8"]
        if int(self.version.split(".")[0]) >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command = [
            *(str(self.programs / "initdb"), "-D", str(draft), "-U", SUPERUSER),
            *("--encoding=UTF8", "--auth-local=trust", "--auth-host=reject"),
            *([*locale, "--no-sync"] if "fsync" in self.settings else locale),
        ]
        self._run(command, draft)
        draft.rename(self.data)

    def _run(self, command: list[str], directory: Path) -> None:
        """Run one of the programs to its end. Raises LauncherError with its output."""
        with tempfile.TemporaryFile() as output:
            code = spawn.run_to_end(
                spawn.spawn(
                    command,
                    directory=directory,
                    output=output,
                    environment=server_environment(),
                    account=self.account,
                    on_parent_death=signal.SIGKILL,
                )
            )
            output.seek(0)
            if code != 0:
                text = output.read().decode(errors="replace")
                name = Path(command[0]).name
                raise LauncherError(f"{name} of PostgreSQL {self.version} failed:\n{text}")

    def _refuse_another_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != self.version.split(".")[0]:
            raise LauncherError(
                f"{self.data} was made by PostgreSQL {made_by} and this is {self.version}. "
                "Set POSTGRES_BIN to the programs of that version, or move the directory away."
            )

    def _end_orphan(self) -> None:
        """End a server of an earlier run, and remove files that keep a new one from starting."""
        lock = self.data / "postmaster.pid"
        words = lock.read_text().split("\n") if lock.exists() else []
        if not words or not words[0].strip().isdigit():
            return
        pid = int(words[0])
        spawn.end_orphan(pid, self._is_ours, *FAST_THEN_IMMEDIATE)
        for left in self.socket.glob(f"{places.SOCKET_NAME}*"):
            left.unlink()
        if lock.exists() and spawn.exists(pid):
            # Another program has this process id now, or a zombie has it. The file stays: a new
            # server finds old backends by the shared memory that it names.
            lock.write_text("\n".join([str(NO_PROCESS), *words[1:]]))

    def _make_roles(self) -> None:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = 'usage'")
            if cursor.fetchone() is None:
                cursor.execute("CREATE ROLE usage LOGIN CREATEDB CREATEROLE")
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = 'usage'")
            if cursor.fetchone() is None:
                cursor.execute("CREATE DATABASE usage OWNER usage")

    def make_analyst(self, role: str) -> None:
        """Create a login in the role usage_analyst, with a statement timeout of 60 seconds."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
            if cursor.fetchone() is None:
                cursor.execute(
                    sql.SQL("CREATE ROLE {} LOGIN IN ROLE usage_analyst").format(
                        sql.Identifier(role)
                    )
                )
            cursor.execute(
                sql.SQL("ALTER ROLE {} SET statement_timeout = '60s'").format(sql.Identifier(role))
            )


def server_environment() -> dict[str, str]:
    """Return the environment of a server, without the caller's PG* variables."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
