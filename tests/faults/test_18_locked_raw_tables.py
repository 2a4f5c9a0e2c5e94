"""Raw tables that are reloaded and locked beside refreshes, seals, prunes and rebuilds.

Fails when a savepoint stays open after a try to lock the raw tables, or when a MERGE that moves a
record to another partition logs no late key.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from django.conf import LazySettings
from psycopg2 import errors

from tests.connections import ask, second_session
from tests.faults.trials import Trials
from tests.histories import DATA, VOICE, columns
from tests.load import Load, closed_until
from usage.errors import RawTableLockedError, RefreshFailedError, RefreshRunningError
from usage.models import RefreshRun
from usage.services.audit.verification import rebuild
from usage.services.totals.refresh import refresh

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
TABLES = [(DATA,), (VOICE,), (DATA, VOICE)]

# True while closed days still have records: a reload could not insert these again.
IS_CLOSING = """
    SELECT
        date '1999-12-31' + closed.last_value::integer
        > coalesce(usage_state.raw_kept_from, '1999-12-31')
    FROM usage_state, usage_raw_kept_from AS closed
"""


class LockedTables(Load):
    """A load whose raw tables are locked again and again, each time for 0 to 3 seconds."""

    # A lock on both tables and a writer that locks one after the other can deadlock.
    ordinary_errors = (errors.DeadlockDetected,)

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds, seconds_a_day=3)
        # A reload deletes records and inserts them again, so no day may be closed meanwhile.
        self.closing = threading.Lock()

    def lock_tables(self, seed: int) -> None:
        self._again_and_again(seed, "locks", self._lock)

    def reload(self, seed: int) -> None:
        self._again_and_again(seed, "reloads", self._reload)

    def _again_and_again(
        self, seed: int, what: str, work: Callable[[Callable[[str], object], random.Random], None]
    ) -> None:
        chance = random.Random(seed)
        with second_session(autocommit=True) as session:
            while self.go_on():
                self.stop.wait(chance.uniform(0, 2))
                try:
                    work(partial(ask, session), chance)
                    self.count(what)
                except errors.DeadlockDetected:
                    ask(session, "ROLLBACK")
                    self.count(f"{what} ended by a deadlock")

    def _lock(self, query: Callable[[str], object], chance: random.Random) -> None:
        tables = chance.choice(TABLES)
        query("BEGIN")
        for table in tables:
            query(
                chance.choice(
                    [
                        f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
                        f"ALTER TABLE {table} ALTER COLUMN price SET DEFAULT 0",
                    ]
                )
            )
        self.stop.wait(chance.uniform(0, 3))
        query(chance.choice(["COMMIT", "ROLLBACK"]))

    def _reload(self, query: Callable[[str], object], chance: random.Random) -> None:
        table = chance.choice([DATA, VOICE])
        with self.closing:
            if query(IS_CLOSING) == [(True,)]:
                return
            query("BEGIN")
            query(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            query(f"CREATE TEMPORARY TABLE saved ON COMMIT DROP AS SELECT * FROM {table}")
            query(f"TRUNCATE {table}")
            self.stop.wait(chance.uniform(0, 3))
            query(f"INSERT INTO {table} ({columns(table)}) SELECT {columns(table)} FROM saved")
            query(f"DELETE FROM {table} WHERE price < 0.03")
            query(chance.choice(["COMMIT", "COMMIT", "ROLLBACK"]))

    def refresh_by_hand(self) -> None:
        with second_session(autocommit=True) as session:
            while self.go_on():
                self.stop.wait(5)
                try:
                    ask(session, "REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open")
                    self.count("refreshes by hand")
                except errors.DeadlockDetected:
                    self.count("refreshes by hand ended by a deadlock")

    def rebuild(self) -> None:
        while self.go_on():
            self.stop.wait(3)
            self._between_refreshes(self._rebuild)

    def _rebuild(self) -> None:
        rebuild(from_date=closed_until(), to_date=self.today())
        self.count("rebuilds")

    def refresh(self) -> None:
        while self.go_on():
            self._count_held_off(self._refresh)
            self.stop.wait(self.seconds_between_refreshes)

    def _refresh(self) -> None:
        run = refresh(trigger=RefreshRun.Trigger.SCHEDULE, then=self.compare)
        self.count(f"refreshes: {run.status}")
        self.count("days sealed", run.days_sealed)
        self.count("keys repaired", run.keys_repaired)
        self.count("view found refreshed by hand", "by hand" in run.remark)

    def _prune(self) -> None:
        with self.closing:
            super()._prune()

    def _between_refreshes(self, work: Callable[[], None]) -> None:
        while self.go_on():
            try:
                self._count_held_off(work)
            except RefreshRunningError:
                time.sleep(0.02)
            else:
                break

    def _count_held_off(self, work: Callable[[], None]) -> None:
        """Run work, and count a refresh that fails since a table stayed locked for five seconds, or
        since a refresh by hand wrote the view after its snapshot. The next one succeeds."""
        try:
            work()
        except (RefreshFailedError, RawTableLockedError) as error:
            if "the next run tries again" not in str(error).lower():
                raise
            self.count("refreshes held off")


@pytest.mark.one_server("no record is late there")
@pytest.mark.usefixtures("only_default_partitions")
def test_totals_stay_exact_while_raw_tables_are_locked_and_reloaded(
    trials: Trials, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daily and period totals are compared inside every refresh, at its snapshot."""
    load = LockedTables(trials.seconds(short=25, full=30 * 60))
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 5
    load.prepare(monkeypatch, fence_seconds=5.0)
    load.run(
        *(partial(load.write, LEVELS[number % 3], number) for number in range(4)),
        partial(load.lock_tables, 5),
        partial(load.reload, 6),
        load.refresh,
        load.refresh_by_hand,
        load.rebuild,
        load.pass_days,
    )
    load.assert_exact_at_the_end()
    counts = Counter(load.counts)
    for what in sorted(counts):
        trials.count(what, counts[what])
    for what in ("days sealed", "keys repaired", "locks", "reloads", "rebuilds"):
        assert counts[what] > 0, what
