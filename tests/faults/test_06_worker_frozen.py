"""A worker frozen in a refresh: others skip, the age is visible, and refreshes resume."""

import json
import subprocess
import urllib.error
import urllib.request
from datetime import UTC, datetime
from functools import partial
from signal import SIGCONT, SIGKILL, SIGSTOP

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from bin import processes
from tests.connections import ask, wait_until
from tests.faults.installation import Installation
from tests.faults.killing import (
    Holder,
    assert_becomes_exact,
    family,
    holder,
    send,
    wait_for_refresh,
)
from tests.faults.ledger import Days, Ledger
from tests.faults.traffic import Traffic
from tests.faults.trials import Trials

MOST_AGE = "3"
RED = {"ready": False, "database": True, "totals_populated": True, "totals_age": False}


class Workers:
    """Two workers; the application_name of their sessions is the name of the worker."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._processes = {name: self._start(name) for name in ("first", "second")}

    def freeze_refresher(self, session: Connection) -> Holder:
        """Freeze the worker that refreshes, in the middle of the refresh."""

        def frozen() -> Holder | None:
            found = holder(session)
            if found is None or found.name not in self._processes:
                return None
            send(SIGSTOP, family(self._processes[found.name].pid))
            # The server still executes statements that the worker sent before, which may end the
            # refresh.
            if found == holder(session, after=0.5):
                return found
            self.thaw(found.name)
            return None

        caught: Holder = wait_until(frozen, seconds=120, what="a refresh to freeze")
        return caught

    def thaw(self, name: str) -> None:
        """Resume a worker."""
        send(SIGCONT, family(self._processes[name].pid))

    def replace(self, name: str) -> None:
        """Kill a worker, frozen or not, and start another."""
        send(SIGKILL, family(self._processes[name].pid))
        self._processes[name].wait()
        self._processes[name] = self._start(name)

    def _start(self, name: str) -> "subprocess.Popen[bytes]":
        return self._installation.start(
            processes.worker(f"{name}@%h"), "celery.log", PGAPPNAME=name
        )


def ready(address: str) -> dict[str, bool]:
    """Return each check of /health/ready, and `ready`."""
    try:
        with urllib.request.urlopen(f"{address}/health/ready", timeout=10) as response:  # noqa: S310
            body = json.load(response)
    except urllib.error.HTTPError as error:
        body = json.load(error)
    except OSError:
        return {}
    return {"ready": body["ready"]} | {each["name"]: each["ok"] for each in body["checks"]}


def two_skipped(session: Connection, since: datetime) -> bool:
    ((number,),) = ask(
        session,
        "SELECT count(*) FROM usage_refreshrun WHERE status = 'skipped' AND started_at > %s",
        [since],
    )
    return int(number) >= 2


def test_while_a_worker_is_frozen_in_a_refresh_reads_go_on_and_readiness_fails(
    installation: Installation, trials: Trials
) -> None:
    """Fails when another refresh waits for the lock, or when readiness ignores the age of the
    totals."""
    ledger = Ledger(Days(datetime.now(UTC).date(), to_seal=2))
    # With this many records a refresh is long enough to freeze it.
    installation.manage(
        "generate_usage", "--subscriptions", "2000", "--days", "3", "--records", "30000"
    )
    token = installation.manage(
        *("make_token", "reader", "--new-user", "--name", "reader", "--scope", "usage:read")
    )
    _, address = installation.start_web(USAGE_MAX_AGE_SECONDS=MOST_AGE)
    with installation.session() as session:
        ledger.make(session)
        workers = Workers(installation)
        installation.start(processes.beat(str(installation.place / "beat")), "celery.log")
        wait_for_refresh(session)
        wait_until(lambda: ready(address).get("ready"), seconds=60, what="ready to be green")
        traffic = Traffic(installation, ledger, trials)
        traffic.read_api(address, token.strip())
        with traffic:
            for number in trials.of("freezes", short=2, full=10, minutes=16):
                frozen = workers.freeze_refresher(session)
                ((as_of, since),) = ask(session, "SELECT as_of, now() FROM usage_state")
                wait_until(
                    lambda: RED.items() <= ready(address).items(),
                    seconds=60,
                    what="ready to be red by the age",
                )
                wait_until(partial(two_skipped, session, since), seconds=60, what="others to skip")
                status = json.loads(
                    installation.manage(
                        "usage_status", "--json", exits=1, USAGE_MAX_AGE_SECONDS=MOST_AGE
                    )
                )
                assert status["fresh"] is False
                assert status["age_seconds"] > float(MOST_AGE)
                assert f"process {frozen.pid} " in status["oldest_transaction"]
                assert ask(session, "SELECT as_of FROM usage_state") == [(as_of,)]
                if number % 2:
                    workers.replace(frozen.name)
                    trials.count("ended by a kill")
                else:
                    workers.thaw(frozen.name)
                    trials.count("thawed")
                wait_for_refresh(session)
                wait_until(lambda: ready(address).get("ready"), seconds=60, what="green again")
                traffic.check()
        assert_becomes_exact(session)
