"""A reader, a writer and a forgotten prepared transaction, open for an hour on a fast clock."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import partial
from io import StringIO

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, run_sql, second_session
from tests.exact import Rows, assert_exact, plain_totals, totals_of
from tests.factories import refresh_and_seal, refresh_totals
from tests.faults.trials import Trials
from usage.models import UsageState
from usage.services.raw import clock

HALF_AN_HOUR, MINUTE = timedelta(minutes=30), timedelta(minutes=1)
DAY = timedelta(days=1)
FORGOTTEN = "forgotten"
INSERT = """
    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    VALUES (%s, %s::date + interval '12 hours', 0.01, 1)
"""


class FastClock:
    """A clock that starts at half past eleven at night; an hour takes `seconds` seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds_of_an_hour = seconds
        self.set(date(2026, 11, 3))

    def set(self, day: date) -> None:
        self.first = datetime.combine(day + DAY, datetime.min.time()) - HALF_AN_HOUR
        self.began = time.monotonic()

    def now(self) -> datetime:
        passed = (time.monotonic() - self.began) / self.seconds_of_an_hour
        return self.first + timedelta(hours=passed)

    def today(self) -> date:
        return self.now().date()

    def minutes(self) -> Iterator[datetime]:
        """Yield about every minute of the hour; fewer on a slow machine, but always the last."""
        end = self.first + 2 * HALF_AN_HOUR
        while (now := self.now()) < end:
            yield now
            time.sleep(self.seconds_of_an_hour / 60)
        yield end


@pytest.fixture
def fast_clock(
    state: None, trials: Trials, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> FastClock:
    """Set the clock of the services. The first day to seal is the day before yesterday."""
    if run_sql("SHOW max_prepared_transactions") == [("0",)]:
        pytest.skip("the server allows no prepared transactions")
    settings.USAGE_OPEN_DAYS = 2
    made = FastClock(trials.seconds(short=6, full=30))
    monkeypatch.setattr(clock, "today", made.today)
    return made


def fences() -> list[str]:
    """Return the lines of usage_status about transactions that a fence waits for."""
    output = StringIO()
    call_command("usage_status", stdout=output)
    return [line for line in output.getvalue().splitlines() if line.startswith("fence")]


def are_named(*processes: Connection | str) -> list[bool]:
    """Return, for each of these sessions and prepared transactions, if usage_status names it."""
    lines = fences()
    wanted = [
        f"prepared transaction '{process}'"
        if isinstance(process, str)
        else f"process {process.get_backend_pid()} of"
        for process in processes
    ]
    return [any(name in line for line in lines) for name in wanted]


class Reader:
    """A reader that keeps one snapshot for the whole hour."""

    def __init__(self, session: Connection) -> None:
        self.session = session
        ask(session, "BEGIN ISOLATION LEVEL REPEATABLE READ")
        self.before = self.look()

    def look(self) -> list[Rows]:
        query = partial(ask, self.session)
        live, plain = totals_of("usage_daily_live", query), plain_totals(query)
        assert live == plain
        return [totals_of("usage_daily", query), live]


@contextmanager
def forgotten(day: date) -> Iterator[None]:
    """Prepare a transaction that wrote to the day; roll it back at the end if it still exists."""
    with second_session(autocommit=True) as session:
        ask(session, "BEGIN")
        ask(session, INSERT, [3, day])
        ask(session, f"PREPARE TRANSACTION '{FORGOTTEN}'")
        try:
            yield
        finally:
            if ask(session, "SELECT gid FROM pg_prepared_xacts WHERE gid = %s", [FORGOTTEN]):
                ask(session, f"ROLLBACK PREPARED '{FORGOTTEN}'")


def sealed_before() -> date | None:
    return UsageState.objects.get().sealed_before


def pass_an_hour(fast: FastClock, reader: Reader, writer: Connection, young: Connection) -> int:
    """Refresh every minute, past midnight; return how many refreshes left the day announced."""
    day = fast.today() - DAY
    refreshes = 0
    for minute in fast.minutes():
        run_sql(INSERT, [1, fast.today()])
        refresh_totals()
        assert_exact()
        assert reader.look() == reader.before
        assert sealed_before() == day
        if UsageState.objects.get().fence_day != day + DAY:
            assert minute.date() == day + DAY, "after midnight a fence was drawn"
            continue
        refreshes += 1
        if refreshes == 1:
            # This writer begins after the fence, so triggers log its writes.
            ask(young, "BEGIN")
            ask(young, INSERT, [4, day])
        assert are_named(writer, FORGOTTEN) == [True, True]
        assert are_named(reader.session, young) == [False, False]
    return refreshes


def test_a_seal_waits_only_for_transactions_that_could_still_write(
    fast_clock: FastClock, trials: Trials
) -> None:
    """While a seal waits, refreshes are exact. The writer and the prepared transaction end in
    either order, by commit or rollback. Then the day is sealed, although the reader and a later
    writer stay open.

    Fails when a seal does not wait for its fence, when it waits for every open transaction, or
    when usage_status names only sessions and no prepared transactions.
    """
    chance = random.Random(11)
    for number in trials.of("hours", short=1, full=10):
        fast_clock.set(date(2026, 11, 3) + number * DAY)
        day = fast_clock.today() - DAY
        run_sql(INSERT, [1, day])
        refresh_and_seal()
        with (
            second_session(autocommit=True) as reading,
            second_session(autocommit=True) as writer,
            second_session(autocommit=True) as young,
            forgotten(day),
        ):
            reader = Reader(reading)
            level = chance.choice(["READ COMMITTED", "REPEATABLE READ"])
            ask(writer, f"BEGIN ISOLATION LEVEL {level}")
            ask(writer, INSERT, [2, day])
            waited = pass_an_hour(fast_clock, reader, writer, young)
            trials.count("refreshes while a seal waited", waited)
            kept = {1, 4}
            for is_last, late in enumerate(chance.sample([2, 3], 2)):
                how = chance.choice(["COMMIT", "ROLLBACK"])
                kept |= {late} if how == "COMMIT" else set()
                if late == 2:
                    ask(writer, how)
                else:
                    run_sql(f"{how} PREPARED '{FORGOTTEN}'")
                if not is_last:
                    refresh_totals()
                    assert sealed_before() == day
                    assert are_named(writer, FORGOTTEN) == [late == 3, late == 2]
            refresh_and_seal()
            assert sealed_before() == day + DAY
            assert_exact()
            assert reader.look() == reader.before
            ask(young, "COMMIT")
            refresh_totals()
            assert_exact()
            assert {row[0] for row in totals_of("usage_daily_sealed") if row[1] == day} == kept
