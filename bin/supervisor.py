"""Keeps services running: starts one that died again, and gives up when it dies too often."""

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
    """What the supervisor starts, watches and stops."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes] | None"

    def start(self) -> None:
        """Start it, also after it died. Raises LauncherError."""

    def alive(self) -> bool:
        """Whether it still runs."""

    def stop(self) -> None:
        """End it; nothing of it is left."""


class Process:
    """A process of the application, with its output in a log."""

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
        """Start it; it may not answer yet."""
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
        """Whether it still runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """End it and the children that it left behind."""
        if self.process is not None:
            spawn.end(self.process, *self.stop_steps)
            self.process = None


class Supervisor:
    """Starts services in order, restarts those that die, stops them in the opposite order.

    The record is a file with the processes that run, so that the next start can end what a kill
    of this one left behind.
    """

    def __init__(self, record: Path) -> None:
        self.record = record
        self.services: list[Service] = []
        self.deaths: dict[str, deque[float]] = {}
        self.restarts: dict[str, float] = {}

    def start(self, service: Service) -> None:
        """Start a service and watch it from now on."""
        service.log.parent.mkdir(exist_ok=True)
        if service.log.exists():
            service.log.replace(service.log.with_name(service.log.name + ".1"))
        self.services.append(service)
        self.deaths[service.name] = deque()
        service.start()
        self._write_record()

    def check(self) -> None:
        """Look once at every service. Raises LauncherError when one dies again and again."""
        for service in self.services:
            if service.name in self.restarts:
                if time.monotonic() >= self.restarts[service.name]:
                    self._restart(service)
            elif not service.alive():
                self._plan_restart(service)
            bound(service.log)

    def stop(self) -> None:
        """End every service, the one started last first."""
        while self.services:
            self.services.pop().stop()
        self.record.unlink(missing_ok=True)

    def end_leftovers(self) -> None:
        """End what still runs of the processes in the record of an earlier run."""
        try:
            recorded = json.loads(self.record.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return
        # Children carry their parent's command line, and its number may be gone already.
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
            # A database is ended gently, by what its own lock file says.
            for service in self.services
            if service.process is not None and service.name != "PostgreSQL"
        ]
        draft = self.record.with_name(self.record.name + ".new")
        draft.write_text(json.dumps(running))
        draft.replace(self.record)


def bound(log: Path) -> None:
    """Begin a log anew when it has grown large, keeping one earlier part."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LARGEST_LOG_BYTES:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)
