"""The supervisor of bin/serve: it restarts a service that died, and stops if it dies too often."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bin import spawn
from bin.spawn import LauncherError

DEATHS_A_MINUTE = 5
LONGEST_PAUSE_SECONDS = 8.0
LARGEST_LOG_BYTES = 20_000_000
LEFTOVER = ((signal.SIGTERM, 5.0),)


class Service(Protocol):
    """A server or process under the supervisor."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes] | None"

    def start(self) -> None:
        """Start the service, also after it died. Raises LauncherError."""

    def alive(self) -> bool:
        """Return whether the service still runs."""

    def stop(self) -> None:
        """Stop the service with all its processes."""


class Process:
    """A process of the application that writes its output to a log."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        log: Path,
        environment: Mapping[str, str],
        stop_steps: Sequence[tuple[signal.Signals, float]],
        on_parent_death: signal.Signals,
    ) -> None:
        self.name = name
        self.log = log
        self.command = list(command)
        self.directory = directory
        self.environment = environment
        self.stop_steps = stop_steps
        self.on_parent_death = on_parent_death
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process without waiting until it answers."""
        self.stop()
        with self.log.open("ab") as output:
            self.process = spawn.spawn(
                self.command,
                directory=self.directory,
                output=output,
                environment=self.environment,
                on_parent_death=self.on_parent_death,
            )

    def alive(self) -> bool:
        """Return whether the process still runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Stop the process and its children."""
        if self.process is not None:
            spawn.end(self.process, *self.stop_steps)
            self.process = None


class Supervisor:
    """A list of services that start in order, restart after a death, and stop in reverse order.

    The record is a file with the running processes. If this supervisor is killed, the next one ends
    those that remain.
    """

    def __init__(self, record: Path) -> None:
        self.record = record
        self.services: list[Service] = []
        self.deaths: dict[str, deque[float]] = {}
        self.restarts: dict[str, float] = {}

    def start(self, service: Service) -> None:
        """Start a service and add it to the list."""
        service.log.parent.mkdir(exist_ok=True)
        if service.log.exists():
            service.log.replace(service.log.with_name(service.log.name + ".1"))
        self.services.append(service)
        self.deaths[service.name] = deque()
        service.start()
        self._write_record()

    def check(self) -> None:
        """Check every service once. Raises LauncherError if one died too often."""
        for service in self.services:
            if service.name in self.restarts:
                if time.monotonic() >= self.restarts[service.name]:
                    self._restart(service)
            elif not service.alive():
                self._plan_restart(service)
            bound(service.log)

    def stop(self) -> None:
        """Stop every service in reverse order."""
        while self.services:
            self.services.pop().stop()
        self.record.unlink(missing_ok=True)

    def end_leftovers(self) -> None:
        """End the remaining processes in the record of an earlier run."""
        try:
            recorded = json.loads(self.record.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return
        # A child has its parent's command line, and the parent may have ended already.
        pids = spawn.process_ids() or [left["pid"] for left in recorded]
        commands = [left["command"] for left in recorded]
        for pid in pids:
            if pid != os.getpid() and spawn.command_of(pid) in commands:
                spawn.end_orphan(pid, lambda command: command in commands, *LEFTOVER)

    def _plan_restart(self, service: Service, reason: str = "") -> None:
        now = time.monotonic()
        deaths = self.deaths[service.name]
        deaths.append(now)
        while deaths[0] < now - 60:
            deaths.popleft()
        code = service.process.returncode if service.process else None
        how = reason or f"ended with code {code}"
        if len(deaths) > DEATHS_A_MINUTE:
            raise LauncherError(
                f"{service.name} {how}, the {len(deaths)}th time in a minute. Everything stops. "
                f"{service.log} ends with:" + spawn.last_lines(service.log)
            )
        pause = min(0.5 * 2 ** (len(deaths) - 1), LONGEST_PAUSE_SECONDS)
        print(f"{service.name} {how}; starting it again, see {service.log}", flush=True)
        self.restarts[service.name] = now + pause

    def _restart(self, service: Service) -> None:
        del self.restarts[service.name]
        try:
            service.start()
        except LauncherError:
            self._plan_restart(service, "does not start")
        self._write_record()

    def _write_record(self) -> None:
        running = [
            {"pid": service.process.pid, "command": service.process.args}
            # PostgreSQL ends its own orphan by its lock file, with a fast shutdown.
            for service in self.services
            if service.process is not None and service.name != "PostgreSQL"
        ]
        draft = self.record.with_name(self.record.name + ".new")
        draft.write_text(json.dumps(running))
        draft.replace(self.record)


def bound(log: Path) -> None:
    """Rotate a log that has grown large, keeping one earlier part."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LARGEST_LOG_BYTES:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)
