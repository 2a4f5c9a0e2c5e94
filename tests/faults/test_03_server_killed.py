"""PostgreSQL killed with all its processes while it refreshes, imports, prunes and seals."""

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
    """A command of manage.py, and what a query answers at least once it was carried out."""

    arguments: tuple[str, ...]
    query: str
    least: date | int


class Jobs:
    """Each is begun, killed with the server, and repeated as it stands until it is done."""

    def __init__(self, installation: Installation, ledger: Ledger, lines: int) -> None:
        self._installation, self._ledger, self.lines = installation, ledger, lines
        self._open_days, self._kept_days = TO_SEAL + 2, len(ledger.days.all)
        self.records = 0
        self.process: subprocess.Popen[bytes] | None = None

    def seal(self) -> Job:
        """Seals a day more, down to two open ones."""
        self._open_days = max(self._open_days - 1, 2)
        sealed_before = self._ledger.days.today - timedelta(self._open_days - 1)
        return Job(("refresh_usage",), "SELECT sealed_before FROM usage_state", sealed_before)

    def retention(self) -> Job:
        """Drops the records of a day more, but of none that the writers need."""
        today, late = self._ledger.days.today, self._ledger.days.late
        self._kept_days = max(self._kept_days - 1, (today - late).days + 1)
        kept_from = today - timedelta(self._kept_days - 1)
        return Job(("prune_usage",), "SELECT raw_kept_from FROM usage_state", kept_from)

    def imports(self) -> Job:
        """Imports another file, of a sealed day."""
        path = self._installation.place / f"{self.records}.csv"
        write_records(path, *self._lines_of(self._ledger.late))
        self.records += self.lines
        return Job(("import_usage", str(path)), IMPORTED, self.records)

    def start(self, job: Job) -> "subprocess.Popen[bytes]":
        """Begin a job, or go on with it."""
        return self._installation.start(
            ("python", "manage.py", *job.arguments),
            "jobs.log",
            PGAPPNAME="job",
            USAGE_OPEN_DAYS=str(self._open_days),
            USAGE_RAW_RETENTION_DAYS=str(self._kept_days),
        )

    def is_at_work(self, session: Connection, job: Job | None, after: float) -> bool:
        """Whether a job, or without one a refresh, has been at work for so many seconds.

        One that ended is begun again: a refresh that was on kept it from its work.
        """
        if job is None:
            return holder(session, after=after) is not None
        if self.process is None or self.process.poll() is not None:
            self.process = self.start(job)
        if not ask(session, AT_WORK):
            return False
        time.sleep(after)
        return True

    def is_done(self, session: Connection, job: Job) -> bool:
        """Repeat the job, which may have to be again."""
        if self.start(job).wait(120) != 0:
            return False
        ((answer,),) = ask(session, job.query)  # none before the first day is sealed or dropped
        return answer is not None and bool(answer >= job.least)  # a midnight may have come

    def _lines_of(self, day: date) -> list[str]:
        first = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return [
            f"data,imported {number % 50},"
            f"{(first + timedelta(milliseconds=number)).isoformat()},0.00000001,1,{number}"
            for number in range(self.lines)
        ]


def make_partitions(installation: Installation, days: list[date]) -> None:
    """A partition for each day, as an import of such days makes them."""
    lines = [f"data,first,{day}T00:00:00Z,0,0,{day}" for day in days]
    installation.manage("import_usage", str(write_records(installation.place / "days", *lines)))


def test_a_server_killed_at_any_moment_comes_back_with_every_record_counted_once(
    installation: Installation, trials: Trials
) -> None:
    """Fails when the totals are kept in unlogged tables, when a commit is answered before it is
    in the log, and when an import that is repeated counts a record again."""
    chance = random.Random()
    ledger = Ledger(Days(datetime.now(UTC).date(), old=OLD, to_seal=TO_SEAL))
    jobs = Jobs(installation, ledger, lines=120_000 if trials.full else 60_000)
    kinds = {
        "refreshes": None,
        "imports": jobs.imports,
        "seals": jobs.seal,
        "prunes": jobs.retention,
    }
    # A refresh, a seal and the one of a prune last so long that a kill falls into them.
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
        # Time enough between two refreshes for the jobs, which wait for none.
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
                after = chance.uniform(0, jobs.lines / 40_000 if what == "imports" else 0.2)
                wait_until(partial(jobs.is_at_work, session, job, after), seconds=240, what=what)
                traffic.goes_away()
                crash(installation)
            cut_off = jobs.process is None or jobs.process.wait(120) != 0
            trials.count(f"{what} cut off", int(cut_off))
            installation.database.start()
            slowest = max(slowest, *traffic.is_back().values())
            with installation.session() as session:
                wait_for_refresh(session)
                if job:
                    # A job waits for no refresh: with none it needn't be repeated often.
                    send(SIGSTOP, [beat.pid])
                    wait_until(partial(jobs.is_done, session, job), seconds=240, what=what)
                    send(SIGCONT, [beat.pid])
            traffic.check()
    with installation.session() as session:
        assert_becomes_exact(session)
        assert ask(session, IMPORTED) == [(jobs.records,)]
    trials.count("ms until the slowest reader was answered", round(slowest * 1000))


def crash(installation: Installation) -> None:
    """End the server as a power switch would end it, but for what the kernel still writes."""
    process = installation.database.process
    assert process is not None
    send(SIGKILL, family(process.pid))
    process.wait()
