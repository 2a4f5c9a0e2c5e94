"""Refreshes killed at random moments, by their backend or their worker, beside readers."""

import random
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from signal import SIGKILL

from bin import processes
from tests.connections import ask, wait_until
from tests.faults.installation import Installation
from tests.faults.killing import assert_becomes_exact, family, holder, send, wait_for_refresh
from tests.faults.ledger import Days, Ledger
from tests.faults.traffic import Traffic
from tests.faults.trials import Trials

DAYS_TO_SEAL = 30
BACKEND, PROCESSES, WORKER = "by their backends", "by the worker's processes", "by the whole worker"
HOW = [BACKEND, PROCESSES, BACKEND, WORKER, BACKEND, PROCESSES, BACKEND, PROCESSES]


class Worker:
    """A worker. Each replacement keeps one open day less, down to two, so it seals a day."""

    def __init__(self, installation: Installation) -> None:
        self._installation, self._open_days = installation, DAYS_TO_SEAL + 2
        self._process = self._start()

    def kill_processes(self) -> None:
        """Kill the pool processes; the worker starts new ones."""
        send(SIGKILL, family(self._process.pid)[1:])

    def replace(self) -> None:
        """Kill the whole worker and start another."""
        send(SIGKILL, family(self._process.pid))
        self._process.wait()
        self._open_days = max(self._open_days - 1, 2)
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return self._installation.start(
            processes.worker(), "celery.log", USAGE_OPEN_DAYS=str(self._open_days)
        )


def test_a_refresh_killed_at_any_moment_disturbs_no_reader_and_the_next_one_converges(
    installation: Installation, trials: Trials
) -> None:
    """Fails when late keys are repaired, days sealed, months added up or as_of set in another
    transaction than that of the view."""
    chance = random.Random()
    ledger = Ledger(Days(datetime.now(UTC).date(), to_seal=DAYS_TO_SEAL))
    # With this many records a refresh is long enough for a kill at many different moments.
    installation.manage(
        "generate_usage", "--subscriptions", "2000", "--days", "3", "--records", "30000"
    )
    with installation.session() as session, closing(installation.database.connect()) as root:
        ledger.make(session)
        worker = Worker(installation)
        installation.start(processes.beat(str(installation.place / "beat")), "celery.log")
        wait_for_refresh(session)
        with Traffic(installation, ledger, trials) as traffic:
            for number in trials.of("kills", short=4, full=300, minutes=16):
                how = HOW[number % len(HOW)]
                found = wait_until(
                    lambda: holder(session, after=chance.uniform(0, 0.3)),
                    seconds=60,
                    what="a refresh",
                )
                if how == BACKEND:
                    ask(root, "SELECT pg_terminate_backend(%s)", [found.pid])
                elif how == PROCESSES:
                    worker.kill_processes()
                else:
                    worker.replace()
                trials.count(how)
                wait_for_refresh(session)
                traffic.check()
        assert_becomes_exact(session)
        ((sealed,),) = ask(session, "SELECT sum(days_sealed) FROM usage_refreshrun")
    trials.count("days sealed", sealed)
