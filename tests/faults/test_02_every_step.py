"""Refreshes killed after every step: old totals until the commit, then new ones."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, wait_until
from tests.exact import Rows, stored_periods, totals_of
from tests.faults.installation import ROOT, Installation
from tests.faults.killing import assert_becomes_exact
from tests.faults.ledger import Days, Ledger
from tests.faults.mortal import BACKEND, FAILED, PROCESS
from tests.faults.traffic import Traffic
from tests.faults.trials import Trials
from tests.refresh_steps import STEPS
from usage.services.steps import Step

TIMES = 20
MORTAL = "from tests.faults.mortal import main; main()"
KILLED = {PROCESS: -9, BACKEND: FAILED}
Refresh = Callable[..., int]


@contextmanager
def refreshes(installation: Installation) -> Iterator[Refresh]:
    """Yield a function that runs a refresh in a process of its own and returns its exit status."""
    with (installation.place / "mortal.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "shell", "-v", "0", "-c", MORTAL],
            cwd=ROOT,
            env=installation.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def refresh(today: date, step: str | None = None, how: str = PROCESS) -> int:
        stdin.write(json.dumps({"today": today.isoformat(), "step": step, "how": how}) + "\n")
        stdin.flush()
        return int(stdout.readline())

    try:
        yield refresh
    finally:
        stdin.close()
        process.wait(60)
        stdout.close()


def published(session: Connection) -> tuple[Rows, Rows, Rows]:
    """Return everything that readers see, at one snapshot."""
    ask(session, "BEGIN ISOLATION LEVEL REPEATABLE READ")
    try:
        return (
            totals_of("usage_daily", lambda query: ask(session, query)),
            stored_periods(lambda query: ask(session, query)),
            ask(session, "SELECT as_of, sealed_before, open_digest FROM usage_state"),
        )
    finally:
        ask(session, "COMMIT")


def killed(session: Connection, refresh: Callable[[], int], status: int) -> tuple[Rows, Rows, Rows]:
    """Refresh until one is killed; return what readers saw before it. Earlier refreshes may end
    without the step, if they find no day to seal."""
    for _ in range(100):
        before = published(session)
        if refresh() == status:
            return before
    raise AssertionError("no refresh reached the step")


def test_a_refresh_killed_after_any_step_shows_the_old_totals_until_its_commit(
    installation: Installation, trials: Trials
) -> None:
    """Fails when a step before the commit commits something that readers see, or when committed
    totals are lost with the process."""
    most = TIMES * len(STEPS)
    today = date(2026, 3, 2)
    ledger = Ledger(Days(today, to_seal=most if trials.full else 2 * len(STEPS)), subscriptions=4)
    with installation.session() as session, refreshes(installation) as refresh:
        ledger.make(session)
        first = ledger.late + timedelta(4)

        def converges(day: date) -> bool:
            sealed = refresh(day) == 0 and ask(session, "SELECT sealed_before FROM usage_state")
            return sealed == [(day - timedelta(1),)]

        wait_until(partial(converges, first), seconds=60, what="the first refresh")
        with Traffic(installation, ledger, trials) as traffic:
            for number in trials.of("kills", short=2 * len(STEPS), full=most, minutes=17):
                day = first + timedelta(number + 1)
                step = STEPS[number % len(STEPS)]
                how = (PROCESS, BACKEND)[number // len(STEPS) % 2]
                began = time.time()
                # A run that loses its session after its commit still succeeds.
                ends = 0 if (step, how) == (Step.COMMITTED, BACKEND) else KILLED[how]
                before = killed(session, partial(refresh, day, step, how), ends)
                after = published(session)
                if step == Step.COMMITTED:
                    assert after[2][0][0].timestamp() > began
                else:
                    assert after == before, f"{step} by {how}"
                wait_until(partial(converges, day), seconds=60, what="the next refresh")
                trials.count(f"of {how}")
                traffic.check()
        wait_until(partial(converges, day), seconds=60, what="the last refresh")
        assert_becomes_exact(session)
    trials.count("steps", len(STEPS))
