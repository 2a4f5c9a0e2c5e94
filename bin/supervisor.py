"""The services of bin/serve: they start in order, and when one ends, everything stops."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bin import spawn
from bin.spawn import LauncherError


class Service(Protocol):
    """A server or process under the supervisor."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes] | None"

    def start(self) -> None:
        """Start the service. Raises LauncherError."""

    def stop(self) -> None:
        """Stop the service with all its processes."""


@dataclass(kw_only=True)
class Process:
    """A process of the application that writes its output to a log."""

    name: str
    command: Sequence[str]
    directory: Path
    log: Path
    environment: Mapping[str, str]
    stop_steps: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 25.0),)
    on_parent_death: signal.Signals = signal.SIGTERM
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the process without waiting until it answers."""
        with self.log.open("ab") as output:
            self.process = spawn.spawn(
                self.command,
                directory=self.directory,
                output=output,
                environment=self.environment,
                on_parent_death=self.on_parent_death,
            )

    def stop(self) -> None:
        """Stop the process and its children."""
        if self.process is not None:
            spawn.end(self.process, *self.stop_steps)
            self.process = None


class Supervisor:
    """A list of services that start in order and stop in reverse order.

    Nothing is started again after its end: a demonstration that hides a fault helps nobody.
    """

    def __init__(self) -> None:
        self.services: list[Service] = []

    def start(self, service: Service) -> None:
        """Start a service with a new log, beside that of the last run, and add it to the list."""
        if service.log.exists():
            service.log.replace(service.log.with_name(service.log.name + ".1"))
        self.services.append(service)
        service.start()

    def check(self) -> None:
        """Check every service once. Raises LauncherError if one has ended."""
        for service in self.services:
            code = service.process.poll() if service.process else None
            if code is not None:
                raise LauncherError(
                    f"{service.name} ended with code {code}, so everything stops. "
                    f"{service.log} ends with:" + spawn.last_lines(service.log)
                )

    def stop(self) -> None:
        """Stop every service in reverse order."""
        while self.services:
            self.services.pop().stop()
