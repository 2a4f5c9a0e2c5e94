"""A load of writers, readers and services at once, each with its own session, for a time."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

import psycopg2
import pytest
from django.db import connection
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, run_sql, second_session
from tests.exact import Ask, Rows, periods_of, plain_totals, stored_periods, totals_of
from tests.factories import make_subscription, refresh_and_seal, refresh_totals
from tests.histories import DATA, QUANTITIES, VOICE
from usage.errors import RefreshRunningError
from usage.models import RefreshRun, UsageState
from usage.services.raw import clock
from usage.services.raw.partitions import make_partitions
from usage.services.totals import closing, retention
from usage.services.totals.refresh import refresh, refresh_now
from usage.services.totals.retention import prune

SUBSCRIPTIONS = 40
FIRST_DAY = date(2026, 11, 10)


def closed_until(query: Ask = run_sql) -> date:
    rows = query("SELECT date '1999-12-31' + last_value::integer FROM usage_raw_kept_from")
    day: date = rows[0][0]
    return day


def from_day(rows: Rows, day: date) -> Rows:
    return [row for row in rows if row[1] >= day]


def until_day(rows: Rows, day: date) -> Rows:
    return [row for row in rows if row[1] < day]


class Load:
    """Threads that run for `seconds`; the failure of one ends all.

    A day passes in `seconds_a_day`, and refreshes are `seconds_between_refreshes` apart.
    """

    # Errors that a writer may get, beside closed days and failed serialization.
    ordinary_errors: tuple[type[psycopg2.Error], ...] = ()

    def __init__(
        self, seconds: float, *, seconds_a_day: float = 1, seconds_between_refreshes: float = 0.1
    ) -> None:
        self.seconds_a_day = seconds_a_day
        self.seconds_between_refreshes = seconds_between_refreshes
        self.counts: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self.began, self.deadline = time.monotonic(), time.monotonic() + seconds
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.days_passed = 0
        self.closed: Rows = []

    def today(self) -> date:
        return FIRST_DAY + timedelta(self.days_passed)

    def count(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.counts[what] += number

    def go_on(self) -> bool:
        return not self.stop.is_set() and time.monotonic() < self.deadline

    def run(self, *parts: Callable[[], None]) -> None:
        def guarded(part: Callable[[], None]) -> None:
            try:
                part()
            except BaseException as error:
                self.failures.append(error)
                self.stop.set()
            finally:
                connection.close()

        threads = [threading.Thread(target=guarded, args=[part]) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.deadline - time.monotonic() + 120)
        assert not any(thread.is_alive() for thread in threads)
        if self.failures:
            raise self.failures[0]

    def prepare(self, monkeypatch: pytest.MonkeyPatch, *, fence_seconds: float) -> None:
        """Make subscriptions and a first partition, and set the clock of services to this load."""
        monkeypatch.setattr(clock, "today", self.today)
        monkeypatch.setattr(closing, "FENCE_SECONDS", fence_seconds)
        monkeypatch.setattr(
            retention, "refresh_now", lambda trigger: refresh_now(trigger, then=self.compare)
        )
        for number in range(1, SUBSCRIPTIONS + 1):
            make_subscription(id=number)
        make_partitions([self.today()])
        refresh_totals()

    def assert_exact_at_the_end(self) -> None:
        """Assert, without writers, that kept days are exact and closed days are unchanged."""
        refresh_and_seal()
        refresh_now(RefreshRun.Trigger.COMMAND, then=self.compare)
        since = self.kept_from()
        assert totals_of("usage_daily") == sorted(
            until_day(self.closed, since) + from_day(plain_totals(), since),
            key=lambda row: row[:3],
        )
        assert run_sql("SELECT count(*) FROM usage_late_key") == [(0,)]

    # Writers

    def write(self, level: str, seed: int) -> None:
        chance = random.Random(seed)
        with second_session(autocommit=True) as session:
            while self.go_on():
                ask(session, f"BEGIN ISOLATION LEVEL {level}")
                try:
                    for _ in range(chance.randint(1, 4)):
                        self._write_in_savepoint(session, chance)
                    if chance.random() < 0.1:
                        time.sleep(chance.uniform(0, 0.3))
                    how = chance.choice(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"])
                    ask(session, how)
                    self.count(f"{level} {how}")
                except errors.SerializationFailure:
                    ask(session, "ROLLBACK")
                    self.count("refused: could not serialize")
                except self.ordinary_errors as error:
                    ask(session, "ROLLBACK")
                    self.count(f"refused: {type(error).__name__}")
                except errors.CheckViolation as error:
                    ask(session, "ROLLBACK")
                    if error.diag.constraint_name != "usage_raw_kept_from":
                        raise
                    self.count("refused: closed day")

    def _write_in_savepoint(self, session: Connection, chance: random.Random) -> None:
        ask(session, "SAVEPOINT one")
        ask(session, self._statement(chance))
        ask(session, chance.choice(["ROLLBACK TO SAVEPOINT one", *["RELEASE SAVEPOINT one"] * 4]))

    def _statement(self, chance: random.Random) -> str:
        table = chance.choice([DATA, VOICE])
        quantity = QUANTITIES[table]

        def subscription() -> int:
            return chance.randint(1, SUBSCRIPTIONS)

        def moment() -> str:
            # Mostly open days, some sealed ones, a few closed or future ones.
            day = self.today() - timedelta(chance.choice([0, 0, 0, 1, 1, 2, 3, 4, -1, 6]))
            return f"{day} {chance.randint(0, 23):02}:{chance.randint(0, 59):02}+00"

        # Rows of one subscription only, in a fixed order: so writers do not deadlock.
        locked = (
            f"SELECT subscription_id, usage_date, id FROM {table}"
            f" WHERE subscription_id = {subscription()}"
            f" AND usage_date >= '{self.today() - timedelta(3)} 00:00+00'"
            f" ORDER BY usage_date, id LIMIT 2 FOR UPDATE SKIP LOCKED"
        )
        some = f"(subscription_id, usage_date, id) IN ({locked})"
        merge = (
            f"MERGE INTO {table} AS kept USING ({locked}) AS sent"
            " ON kept.id = sent.id AND kept.usage_date = sent.usage_date"
            " AND kept.subscription_id = sent.subscription_id"
        )
        move = f"UPDATE SET usage_date = '{moment()}', price = kept.price + 1"
        return chance.choice(
            [
                f"INSERT INTO {table} (subscription_id, usage_date, price, {quantity})"
                f" SELECT {subscription()}, '{moment()}', n * 0.01, n FROM generate_series(1, 20)"
                " AS numbers (n)",
                f"INSERT INTO {table} (subscription_id, usage_date, price, {quantity})"
                f" VALUES ({subscription()}, '{moment()}', 1.23456789, 1)",
                f"UPDATE {table} SET price = price + 1 WHERE {some}",
                f"UPDATE {table} SET subscription_id = {subscription()} WHERE {some}",
                f"UPDATE {table} SET usage_date = '{moment()}' WHERE {some}",
                f"DELETE FROM {table} WHERE {some}",
                f"{merge} WHEN MATCHED THEN {move}",
                f"{merge} WHEN MATCHED AND kept.price > 2 THEN DELETE WHEN MATCHED THEN {move}",
            ]
        )

    # Readers

    def read(self, level: str, seed: int) -> None:
        """Read, and assert that a key is published once and live totals are exact."""
        chance = random.Random(seed)
        with second_session(autocommit=True) as session:
            query = partial(ask, session)
            while self.go_on():
                ask(session, f"BEGIN ISOLATION LEVEL {level}")
                published = totals_of("usage_daily", query)
                assert len({row[:3] for row in published}) == len(published)
                self.count("reads of usage_daily")
                if level == "REPEATABLE READ" and chance.random() < 0.3:
                    self._compare_live(query)
                ask(session, "COMMIT")

    def _compare_live(self, query: Ask) -> None:
        live, plain = totals_of("usage_daily_live", query), plain_totals(query)
        # A day that was closed meanwhile may be missing in one of the two results.
        since = closed_until(query)
        assert from_day(live, since) == from_day(plain, since)
        self.count("live totals compared")

    # Services

    def compare(self, _state: UsageState, run: RefreshRun) -> None:
        """Assert inside a refresh that published totals are exact and closed ones unchanged."""
        published, since = totals_of("usage_daily"), self.kept_from()
        assert from_day(published, since) == from_day(plain_totals(), since)
        assert until_day(published, since) == until_day(self.closed, since)
        assert stored_periods() == periods_of(published)
        assert "were missing" not in run.remark
        if run.trigger == RefreshRun.Trigger.RETENTION:
            # The fence has passed, so no writer can change these days any more.
            self.closed = until_day(published, closed_until())
        self.count("published totals compared")

    def kept_from(self) -> date:
        return UsageState.objects.get().raw_kept_from or date.min

    def refresh(self) -> None:
        while self.go_on():
            run = refresh(trigger=RefreshRun.Trigger.SCHEDULE, then=self.compare)
            self.count(f"refreshes: {run.status}")
            self.count("days sealed", run.days_sealed)
            self.count("keys repaired", run.keys_repaired)
            self.stop.wait(self.seconds_between_refreshes)

    def pass_days(self) -> None:
        while self.go_on():
            self.stop.wait(self.seconds_a_day)
            self.days_passed += 1
            self._between_refreshes(self._make_partitions)
            if self.days_passed % 3 == 0:
                self._between_refreshes(self._prune)

    def _between_refreshes(self, work: Callable[[], None]) -> None:
        while self.go_on():
            try:
                work()
            except RefreshRunningError:
                time.sleep(0.02)
            else:
                break

    def _make_partitions(self) -> None:
        self.count("partitions", len(make_partitions([self.today() + timedelta(2)])))

    def _prune(self) -> None:
        report = prune()
        self.count("prunes")
        self.count("partitions dropped", len(report.partitions_dropped))
