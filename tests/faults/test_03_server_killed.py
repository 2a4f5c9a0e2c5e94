"""PostgreSQL killed with all its processes during refreshes, imports, prunes and seals."""

import random
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from signal import SIGCONT, SIGKILL, SIGSTOP

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from bin import processes
from tests.connections import ask, wait_until
from tests.faults.installation import Installation
from tests.faults.killing import assert_becomes_exact, family, holder, send, wait_for_refresh
from tests.faults.ledger import Days, Ledger
from tests.faults.traffic import Traffic
from tests.faults.trials import Trials
from tests.usage.importing import write_records

OLD, TO_SEAL = 14, 14
IMPORTED = "SELECT count(*) FROM usage_datausagerecord WHERE price = 0.00000001"
AT_WORK = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'job' AND state <> 'idle'"


@dataclass(frozen=True)
class Job:
    """A command of manage.py, with a query whose result is at least `least` once it is done."""

    arguments: tuple[str, ...]
    query: str
    least: date | int


class Jobs:
    """Jobs that are started, killed with the server, and repeated until they are done."""

    def __init__(self, installation: Installation, ledger: Ledger, lines: int) -> None:
        self._installation, self._ledger, self.lines = installation, ledger, lines
        self._open_days, self._kept_days = TO_SEAL + 2, len(ledger.days.all)
        self.records = 0
        self.process: subprocess.Popen[bytes] | None = None

    def seal(self) -> Job:
        """Return a job that seals one more day, down to two open days."""
        self._open_days = max(self._open_days - 1, 2)
        sealed_before = self._ledger.days.today - timedelta(self._open_days - 1)
        return Job(("refresh_usage",), "SELECT sealed_before FROM usage_state", sealed_before)

    def retention(self) -> Job:
        """Return a job that drops the records of one more day, unless the writers need that day."""
        today, late = self._ledger.days.today, self._ledger.days.late
        self._kept_days = max(self._kept_days - 1, (today - late).days + 1)
        kept_from = today - timedelta(self._kept_days - 1)
        return Job(("prune_usage",), "SELECT raw_kept_from FROM usage_state", kept_from)

    def imports(self) -> Job:
        """Return a job that imports another file, of a sealed day."""
        path = self._installation.place / f"{self.records}.csv"
        write_records(path, *self._lines_of(self._ledger.late))
        self.records += self.lines
        return Job(("import_usage", str(path)), IMPORTED, self.records)

    def start(self, job: Job) -> "subprocess.Popen[bytes]":
        """Start a job, or start it again."""
        return self._installation.start(
            ("python", "manage.py", *job.arguments),
            "jobs.log",
            PGAPPNAME="job",
            USAGE_OPEN_DAYS=str(self._open_days),
            USAGE_RAW_RETENTION_DAYS=str(self._kept_days),
        )

    def is_at_work(self, session: Connection, job: Job | None, longest: float) -> bool:
        """Return whether a job, or a refresh without a job, has run for a random time.

        The time is at most `longest` seconds, and another at each call: a refresh may be shorter.
        A job that ended is started again: a refresh held the lock that it needs.
        """
        after = random.uniform(0, longest)
        if job is None:
            return holder(session, after=after) is not None
        if self.process is None or self.process.poll() is not None:
            self.process = self.start(job)
        if not ask(session, AT_WORK):
            return False
        time.sleep(after)
        return True

    def is_done(self, session: Connection, job: Job) -> bool:
        """Repeat the job; return whether it is done or must be repeated again."""
        if self.start(job).wait(120) != 0:
            return False
        ((value,),) = ask(session, job.query)  # None before the first day is sealed or dropped
        return value is not None and bool(value >= job.least)  # greater after a midnight

    def _lines_of(self, day: date) -> list[str]:
        first = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return [
            f"data,imported {number % 50},"
            f"{(first + timedelta(milliseconds=number)).isoformat()},0.00000001,1,{number}"
            for number in range(self.lines)
        ]


def make_partitions(installation: Installation, days: list[date]) -> None:
    """Make a partition for each day, by an import of such days."""
    lines = [f"data,first,{day}T00:00:00Z,0,0,{day}" for day in days]
    installation.manage("import_usage", str(write_records(installation.place / "days", *lines)))


def test_a_server_killed_at_any_moment_comes_back_with_every_record_counted_once(
    installation: Installation, trials: Trials
) -> None:
    """Fails when the totals are in unlogged tables, when the server acknowledges a commit before it
    is in the log, or when a repeated import counts a record twice."""
    ledger = Ledger(Days(datetime.now(UTC).date(), old=OLD, to_seal=TO_SEAL))
    jobs = Jobs(installation, ledger, lines=120_000 if trials.full else 60_000)
    kinds = {
        "refreshes": None,
        "imports": jobs.imports,
        "seals": jobs.seal,
        "prunes": jobs.retention,
    }
    # With this many records a kill hits a refresh, a seal, and the refresh of a prune.
    installation.manage(
        "generate_usage", "--subscriptions", "2000", "--days", "3", "--records", "30000"
    )
    make_partitions(installation, ledger.days.all)
    token = installation.manage(
        *("make_token", "reader", "--new-user", "--name", "reader", "--scope", "usage:read")
    )
    _, address = installation.start_web()
    with installation.session() as session:
        ledger.make(session)
        # The jobs do not wait for a refresh, so they need some time between two of them.
        settings = {"USAGE_OPEN_DAYS": str(TO_SEAL + 2), "USAGE_REFRESH_SECONDS": "3"}
        installation.start(processes.worker(), "celery.log", **settings)
        beat = installation.start(
            processes.beat(str(installation.place / "beat")), "celery.log", **settings
        )
        wait_for_refresh(session)
    traffic = Traffic(installation, ledger, trials)
    traffic.read_api(address, token.strip())
    slowest = 0.0
    with traffic:
        for number in trials.of("kills", short=4, full=50, minutes=18):
            what = list(kinds)[number % len(kinds)]
            begin = kinds[what]
            job = begin() if begin else None
            with installation.session() as session:
                jobs.process = None
                longest = jobs.lines / 40_000 if what == "imports" else 0.2
                wait_until(partial(jobs.is_at_work, session, job, longest), seconds=240, what=what)
                traffic.goes_away()
                crash(installation)
            cut_off = jobs.process is None or jobs.process.wait(120) != 0
            trials.count(f"{what} cut off", int(cut_off))
            installation.database.start()
            slowest = max(slowest, *traffic.is_back().values())
            with installation.session() as session:
                wait_for_refresh(session)
                if job:
                    # A refresh makes a job fail, so beat pauses until the job is done.
                    send(SIGSTOP, [beat.pid])
                    wait_until(partial(jobs.is_done, session, job), seconds=240, what=what)
                    send(SIGCONT, [beat.pid])
            traffic.check()
    with installation.session() as session:
        assert_becomes_exact(session)
        assert ask(session, IMPORTED) == [(jobs.records,)]
    trials.count("ms until the slowest reader was answered", round(slowest * 1000))


def crash(installation: Installation) -> None:
    """End the server like a power cut, except that the kernel still writes its cache to disk."""
    process = installation.database.process
    assert process is not None
    send(SIGKILL, family(process.pid))
    process.wait()
