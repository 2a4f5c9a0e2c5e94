"""A Valkey server of our own: the broker between beat and the worker."""

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis

from bin import place as places
from bin import programs, spawn
from bin.spawn import LauncherError

ADDRESS = "127.0.0.1"
START_SECONDS = 10
TERMINATE = ((signal.SIGTERM, 10.0),)

# Messages expire within one refresh interval, so nothing is worth keeping on disk.
CONFIGURATION = """\
bind {address}
port {port}
requirepass {password}
protected-mode yes
save ""
appendonly no
maxmemory 128mb
maxmemory-policy noeviction
daemonize no
set-proc-title no
"""


class Valkey:
    """One server on 127.0.0.1 at a free port, behind a password; it keeps nothing on disk."""

    name = "Valkey"

    def __init__(self, place: Path, log: Path, password: str) -> None:
        self.place = place.resolve()
        self.log = log
        self.account = places.server_account()
        self.program = programs.valkey_program(place, self.account)
        self.password = password
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, as Celery and redis-py take it; the port stays through restarts."""
        return f"redis://:{self.password}@{ADDRESS}:{self.port}/0"

    @property
    def command(self) -> list[str]:
        """Ours alone, by its directory; without the password, which other users could read."""
        return [str(self.program), "-", "--dir", str(self.place)]

    def start(self) -> None:
        """Start, at the first time at a port that is free, and return once it answers."""
        self.stop()
        if self.port:
            answered = self._answers()
        else:
            # Somebody may take a free port before we do.
            for _ in range(5):
                self.port = free_port()
                if answered := self._answers():
                    break
        if not answered:
            raise LauncherError(
                f"Valkey does not start; {self.log} ends with:" + spawn.last_lines(self.log)
            )

    def alive(self) -> bool:
        """Whether the server that we started still runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """End the server; what it held is gone."""
        if self.process is not None:
            spawn.end(self.process, *TERMINATE)
            self.process = None

    def _answers(self) -> bool:
        with self.log.open("ab") as output:
            self.process = spawn.spawn(
                self.command,
                directory=self.place,
                output=output,
                account=self.account,
                environment={},
                stdin=subprocess.PIPE,
            )
        text = CONFIGURATION.format(address=ADDRESS, port=self.port, password=self.password)
        assert self.process.stdin is not None  # noqa: S101 - PIPE, for the type checker
        with contextlib.suppress(BrokenPipeError), self.process.stdin as configuration:
            configuration.write(text.encode())
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                    client.ping()
            except redis.RedisError:
                time.sleep(0.05)
            else:
                return True
        self.stop()
        return False


def free_port(first: int = 0) -> int:
    """A port of 127.0.0.1 that nobody listens on: the first from a number on, or any."""
    for port in range(first, 65_536) if first else [0]:
        with socket.socket() as probe:
            # As the servers do: a connection of an earlier run may linger at the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LauncherError(f"No port from {first} on is free.")
