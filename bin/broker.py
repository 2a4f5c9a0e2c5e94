"""The embedded Valkey server: the broker between beat and the worker."""

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

# Messages expire within one refresh interval, so the server writes nothing to disk.
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
    """A server on a free port of 127.0.0.1, with a password and without files on disk."""

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
        """The address for Celery and redis-py; a restart keeps the port."""
        return f"redis://:{self.password}@{ADDRESS}:{self.port}/0"

    @property
    def command(self) -> list[str]:
        """The command line. The directory makes it unique; the password is not in it, because
        every user of the machine can read it."""
        return [str(self.program), "-", "--dir", str(self.place)]

    def start(self) -> None:
        """Start the server and wait until it answers; the first start picks a free port."""
        self.stop()
        if self.port:
            is_ready = self._launch()
        else:
            # Another process may take the free port first.
            for _ in range(5):
                self.port = free_port()
                if is_ready := self._launch():
                    break
        if not is_ready:
            raise LauncherError(
                f"Valkey does not start; {self.log} ends with:" + spawn.last_lines(self.log)
            )

    def alive(self) -> bool:
        """Return whether the server still runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Stop the server; its messages are lost."""
        if self.process is not None:
            spawn.end(self.process, *TERMINATE)
            self.process = None

    def _launch(self) -> bool:
        """Start the server once; return whether it answers."""
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
    """Return a free port of 127.0.0.1: any, or the first one from a number on."""
    for port in range(first, 65_536) if first else [0]:
        with socket.socket() as probe:
            # The servers set this too: a connection of an earlier run may linger on the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LauncherError(f"No port from {first} on is free.")
