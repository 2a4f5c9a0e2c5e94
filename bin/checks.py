"""bin/test: lint, types, an audit of the packages and all tests on throw-away servers. About 10
minutes on two idle cores; several processes run the tests, each with a PostgreSQL of its own.

bin/test --quick     lint, types, and the tests marked unit or database: about two minutes
bin/test --tests     every test, without the checks
bin/test --slowest   also print the twenty slowest tests
bin/test --faults    run every test of a fault in docs/reliability.md as often as the table says,
                     and write the results there; --faults 7 12 runs rows 7 and 12 alone
bin/test PATHS ...   pytest alone, in one process (.venv/bin/python -m pytest --help)

DATABASE_URL and REDIS_URL name servers to use in place of throw-away ones, by one process;
CITUS_DATABASE_URL names an empty database of a Citus cluster (docs/scaling.md).
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from bin import place, spawn
from bin.broker import Valkey
from bin.embedded import PostgreSQL
from bin.interrupt import Interrupted, ignore_interrupts, raise_interrupted
from bin.spawn import LauncherError

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
# The script lint-imports has the absolute path of .venv, and the tree may have moved since.
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
CHECKS = {
    "ruff format": [PYTHON, "-m", "ruff", "format", "--check", "."],
    "ruff check": [PYTHON, "-m", "ruff", "check", "."],
    "plain English": [PYTHON, "-m", "bin.plain_english"],
    "mypy": [PYTHON, "-m", "mypy"],
    "import-linter": [PYTHON, "-c", LINT_IMPORTS],
    "sqlfluff": [PYTHON, "-m", "sqlfluff", "lint", "usage/sql"],
    "makemigrations": [PYTHON, "manage.py", "makemigrations", "--check", "--dry-run"],
    "check": [PYTHON, "manage.py", "check"],
    "pip-audit": [PYTHON, "-m", "bin.audit"],
}
# They ask the network, or take long for what they find.
SLOW_CHECKS = {"pip-audit", "sqlfluff"}
# Arguments of pytest-xdist: tests/costs.py orders and distributes the tests.
PARALLEL = ["--dist", "loadscope", "--no-loadscope-reorder"]
MOST_PROCESSES = 8
# The variable with the servers of each process, as JSON.
WORKER_SERVERS = "USAGE_TEST_SERVERS"


@dataclass(frozen=True)
class Plan:
    """The arguments of pytest, the checks before it, and the processes that run the tests."""

    pytest: list[str]
    checks: list[str] = field(default_factory=list)
    processes: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def throw_away_servers(processes: int) -> Iterator[dict[str, str]]:
    """Start the servers that the environment does not name; yield the variables that name them.

    Each process of the tests gets servers of its own, since a fence waits for transactions in every
    database of a server, and roles belong to all of them. WORKER_SERVERS names these servers.
    """
    with ExitStack() as stack:
        started = [start_servers(stack) for _ in range(processes)]
        variables = dict(started[0])
        if processes > 1:
            variables[WORKER_SERVERS] = json.dumps(started)
        yield variables


def start_servers(stack: ExitStack) -> dict[str, str]:
    """Start a PostgreSQL and a Valkey, unless the environment names one; the stack ends them."""
    variables: dict[str, str] = {}
    if not {"DATABASE_URL", "REDIS_URL"} <= os.environ.keys():
        here = place.passing_place(place.server_account())
        stack.callback(shutil.rmtree, here, ignore_errors=True)
    if "DATABASE_URL" not in os.environ:
        database = PostgreSQL(here, here / "postgresql.log", thrown_away=True)
        stack.callback(database.stop)
        database.start()
        variables |= database.variables()
    if "REDIS_URL" not in os.environ:
        broker = Valkey(here, here / "valkey.log", secrets.token_urlsafe(24))
        stack.callback(broker.stop)
        broker.start()
        variables["REDIS_URL"] = broker.url
    return variables


def on_citus() -> dict[str, str]:
    """Return the settings for CITUS_DATABASE_URL, an empty database of a coordinator with workers:
    the tests distribute its raw records, and skip what needs triggers on them."""
    if url := os.environ.get("CITUS_DATABASE_URL"):
        return {"DATABASE_URL": url, "USAGE_LATE_KEYS": "window"}
    return {}


def server_version(url: str) -> str:
    """Return the version of the server that the tests run on."""
    connection = psycopg2.connect(url)
    try:
        return str(connection.get_parameter_status("server_version"))
    finally:
        connection.close()


def run(command: list[str], environment: Mapping[str, str]) -> int:
    """Run one command to its end and return its exit code."""
    # A debugger in a test reads from the terminal.
    stdin = None if sys.stdin.isatty() else subprocess.DEVNULL
    return spawn.run_to_end(
        spawn.spawn(command, directory=ROOT, environment=environment, stdin=stdin)
    )


def run_checks(names: list[str], environment: Mapping[str, str]) -> list[str]:
    """Run these checks, also after one failed; return the names of those that failed."""
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        if run(CHECKS[name], environment) != 0:
            failed.append(name)
            print(f"== {name} FAILED after {time.monotonic() - began:.0f} s", flush=True)
    return failed


def fault_tests(rows: list[str]) -> list[str]:
    """Return the test modules of these rows of the table of faults, or of every row."""
    modules = {
        path.name.split("_")[1].lstrip("0"): f"tests/faults/{path.name}"
        for path in sorted((ROOT / "tests" / "faults").glob("test_[0-9][0-9]_*.py"))
    }
    for row in rows:
        if row not in modules:
            raise LauncherError(f"--faults: no row {row}; there are {', '.join(modules)}.")
    return [modules[row] for row in rows or modules]


def processes_for_tests() -> int:
    """Return how many processes run the whole suite: two for each core, since tests mostly wait."""
    if {"DATABASE_URL", "CITUS_DATABASE_URL"} & os.environ.keys():
        return 1
    return min(2 * len(os.sched_getaffinity(0)), MOST_PROCESSES)


def plan(arguments: list[str]) -> Plan:
    """Return what the arguments of bin/test ask for. Raises LauncherError for an unknown row."""
    if arguments[:1] == ["--faults"]:
        full = {"USAGE_FAULT_TRIALS": "full"}
        return Plan([*fault_tests(arguments[1:]), "-s"], variables=full)
    flags = {"--quick", "--tests", "--slowest"}
    if not set(arguments) <= flags:
        return Plan(arguments)
    pytest = ["--durations=20"] if "--slowest" in arguments else []
    if "--quick" in arguments:
        print("bin/test --quick takes about two minutes on two idle cores.", flush=True)
        pytest += ["-m", "unit or database"]
    else:
        print("bin/test takes about ten minutes on two idle cores.", flush=True)
    checks = [] if "--tests" in arguments else list(CHECKS)
    if "--quick" in arguments:
        checks = [name for name in checks if name not in SLOW_CHECKS]
    processes = processes_for_tests()
    if processes > 1:
        pytest += ["-n", str(processes), *PARALLEL]
    return Plan(pytest, checks=checks, processes=processes)


def main(arguments: list[str]) -> int:
    """Run the checks and the tests; return 0 only if all passed."""
    raise_interrupted()
    try:
        work = plan(arguments)
        with throw_away_servers(work.processes) as servers:
            environment = {
                "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
                "DJANGO_PLAIN_HTTP": "1",
                "USAGE_ADDRESS_REQUESTS_PER_MINUTE": "1000000000",
                "USAGE_TOKEN_REQUESTS_PER_MINUTE": "1000000000",
                "DJANGO_SETTINGS_MODULE": "config.settings",
                **os.environ,
                **servers,
                **work.variables,
                **on_citus(),
            }
            version = server_version(environment["DATABASE_URL"])
            failed = run_checks(work.checks, environment)
            print(f"== pytest on PostgreSQL {version}", flush=True)
            code = run([PYTHON, "-m", "pytest", *work.pytest], environment)
            ignore_interrupts()
    except Interrupted as interrupted:
        print(f"Stopped by {interrupted}.", file=sys.stderr)
        return 130
    except (LauncherError, psycopg2.OperationalError) as error:
        print(error, file=sys.stderr)
        return 1
    if failed:
        print(f"bin/test: failed beside the tests: {', '.join(failed)}", file=sys.stderr)
    return code or (1 if failed else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
