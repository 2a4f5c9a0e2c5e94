"""A random history of writers, refreshes, seals, prunes and midnights, with its invariants.

After each step usage_daily still equals the result of the last refresh, usage_daily_live is exact
for every session, and a refresh makes usage_daily exact.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, timedelta
from functools import partial
from typing import Any
from unittest import mock

from django.test import override_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.connections import ask, run_sql
from tests.exact import Ask, Rows, periods_of, plain_totals, stored_periods, totals_of
from tests.histories import SUBSCRIPTIONS, Copy, Statement
from tests.history_services import CUTS, Calendar, CutOffError, cut_off, start_over
from tests.history_writers import LEVELS, Writer, is_ordinary
from usage.errors import RefreshFailedError
from usage.models import LateKeysMode, RefreshRun, UsageState
from usage.services.audit.verification import rebuild, verify
from usage.services.raw import clock
from usage.services.raw.partitions import make_partitions
from usage.services.steps import Step
from usage.services.totals.refresh import refresh
from usage.services.totals.retention import prune

OPEN_DAYS, RAW_RETENTION_DAYS = 2, 5
WRITER_ACTIONS = ["begin", *["write"] * 5, "savepoint", "end", "look"]
SERVICE_ACTIONS = [
    *["refresh"] * 4,
    *["pass_midnights"] * 2,
    *["prune"] * 2,
    *["make_partitions", "rebuild", "verify", "restore_a_dump"],
]
LIVE = [
    "usage_daily_live",
    f"usage_daily_live_of(ARRAY{SUBSCRIPTIONS}, '2000-01-01', '2099-12-31')",
]
cuts = st.sampled_from([None] * 8 + CUTS)


class HistoryMachine(RuleBasedStateMachine):
    calendar: Calendar
    sessions: list[Any]
    open_days: int | None = OPEN_DAYS
    late_keys: str = LateKeysMode.TRIGGERS
    writes: st.SearchStrategy[Statement | Copy]
    counts: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.writers = [Writer(session) for session in self.sessions]
        start_over(self.calendar.zone, self.late_keys)
        run_sql("SET lock_timeout = '20ms'")
        self.today = self.calendar.days[3]
        self.published: Rows = []
        self.closed: Rows = []
        self.refreshed = False
        self.counts["histories"] += 1
        self.patches = ExitStack()
        self.patches.enter_context(
            mock.patch.object(clock, "today", side_effect=lambda: self.today)
        )
        self.patches.enter_context(
            override_settings(
                USAGE_OPEN_DAYS=self.open_days,
                USAGE_RAW_RETENTION_DAYS=self.open_days and RAW_RETENTION_DAYS,
                USAGE_LATE_KEYS=self.late_keys,
                USAGE_TIME_ZONE=self.calendar.zone,
            )
        )

    def teardown(self) -> None:
        for writer in self.writers:
            writer.end()
        self.refresh()
        run_sql("RESET lock_timeout")
        self.patches.close()

    # There are only two rules, since hypothesis leaves out whole rules in most histories.

    @rule(data=st.data(), actions=st.lists(st.sampled_from(WRITER_ACTIONS), min_size=1, max_size=4))
    def writers_act(self, data: st.DataObject, actions: list[str]) -> None:
        for action in actions:
            getattr(self, action)(data, self.writers[data.draw(st.integers(0, 2))])

    @rule(data=st.data(), action=st.sampled_from(SERVICE_ACTIONS))
    def services_act(self, data: st.DataObject, action: str) -> None:
        if action in ("refresh", "pass_midnights") or not self.is_truncating:
            getattr(self, action)(data)

    def begin(self, data: st.DataObject, writer: Writer) -> None:
        if writer.level is None:
            writer.begin(data.draw(st.sampled_from(LEVELS)))
            self.look(data, writer)

    def write(self, data: st.DataObject, writer: Writer) -> None:
        step, guarded, level = data.draw(self.writes), data.draw(st.booleans()), writer.level
        error = writer.write(step, guarded=guarded)
        self.counts["writes" if error is None else f"refused: {type(error).__name__}"] += 1
        assert error is None or is_ordinary(error, step, level), error

    def savepoint(self, data: st.DataObject, writer: Writer) -> None:
        how = data.draw(st.sampled_from(["SAVEPOINT", "ROLLBACK TO", "RELEASE"]))
        if how != "SAVEPOINT" and writer.savepoints:
            writer.end_savepoint(how)
        elif writer.level is not None:
            writer.set_savepoint()

    def end(self, data: st.DataObject, writer: Writer) -> None:
        writer.end(data.draw(st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"])))

    def look(self, _data: st.DataObject, writer: Writer) -> None:
        """Assert exact live totals at the snapshot of an open transaction, with its own writes."""
        if any(other.truncated for other in self.writers if other is not writer):
            return
        query = partial(ask, writer.session)
        # A partition that a prune emptied later is empty for this snapshot too.
        since = self.kept_from
        for relation in LIVE:
            live = totals_of(relation, query)
            assert [row for row in live if row[1] >= since] == self.kept(query)
        self.counts["looks into a transaction"] += 1

    def pass_midnights(self, data: st.DataObject) -> None:
        self.today += timedelta(data.draw(st.integers(1, 3)))
        self.commit_all(data)
        if data.draw(st.booleans()):
            self.refresh(data)

    def commit_all(self, data: st.DataObject) -> None:
        """Commit all writers, half of the time: a fence passes only when earlier writers ended."""
        if data.draw(st.booleans()):
            for writer in self.writers:
                writer.end("COMMIT")

    def refresh(self, data: st.DataObject | None = None) -> None:
        with self.observed("refreshes", data.draw(cuts) if data else None):
            run = refresh(trigger=RefreshRun.Trigger.COMMAND)
            assert run.status == RefreshRun.Status.SUCCESS, run.error
            self.counts["keys repaired"] += run.keys_repaired
            self.counts["days sealed"] += run.days_sealed

    def prune(self, data: st.DataObject) -> None:
        self.commit_all(data)
        with self.observed("prunes", data.draw(cuts)):
            prune()

    def make_partitions(self, data: st.DataObject) -> None:
        days = data.draw(st.lists(st.sampled_from(self.calendar.days), min_size=1, max_size=3))
        self.counts["partitions"] += len(make_partitions(days))

    def rebuild(self, data: st.DataObject) -> None:
        from_date = data.draw(st.sampled_from(self.calendar.days))
        with self.observed("rebuilds", None):
            rebuild(from_date=from_date, to_date=from_date + timedelta(2))

    def verify(self, _data: st.DataObject) -> None:
        with self.observed("audits", None):
            assert verify(repair=True).differences == []

    def restore_a_dump(self, _data: st.DataObject) -> None:
        """Set the fences as in a dump of a server with greater transaction ids."""
        run_sql("UPDATE usage_state SET fence = fence + (1::bigint << 40), raw_fence = NULL")

    @contextmanager
    def observed(self, what: str, cut: Step | None) -> Iterator[None]:
        """Run a service, or interrupt it after one step; then assert that its totals are exact."""
        succeeded = RefreshRun.objects.filter(status="success")
        runs = succeeded.count()
        self.counts[what] += 1
        before = [] if self.is_truncating else plain_totals(zone=self.calendar.zone)
        was_kept_from = self.kept_from
        with suppress(CutOffError), cut_off(cut):
            try:
                yield
            except RefreshFailedError:
                assert self.is_truncating
                self.counts["refreshes held off by TRUNCATE"] += 1
        self.refreshed = succeeded.count() > runs
        if self.refreshed:
            self.published = totals_of("usage_daily")
        kept_from = self.kept_from
        assert kept_from >= was_kept_from
        self.counts["days closed"] += kept_from > was_kept_from
        self.closed += [row for row in before if was_kept_from <= row[1] < kept_from]
        self.compare_if_refreshed()

    # Invariants

    @invariant()
    def readers_see_what_was_published(self) -> None:
        self.counts["steps"] += 1
        assert totals_of("usage_daily") == self.published
        assert stored_periods() == periods_of(self.published)

    @invariant()
    def live_totals_are_exact(self) -> None:
        if not self.is_truncating:
            expected = self.with_closed(self.kept(run_sql))
            for relation in LIVE:
                assert totals_of(relation) == expected

    def compare_if_refreshed(self) -> None:
        if self.refreshed:
            assert self.published == self.with_closed(self.kept(run_sql))

    def with_closed(self, kept: Rows) -> Rows:
        return sorted(self.closed + kept, key=lambda row: row[:3])

    def kept(self, query: Ask) -> Rows:
        since = self.kept_from
        return [row for row in plain_totals(query, self.calendar.zone) if row[1] >= since]

    @property
    def kept_from(self) -> date:
        return UsageState.objects.get().raw_kept_from or date.min

    @property
    def is_truncating(self) -> bool:
        return any(writer.truncated for writer in self.writers)
