"""Raw records are dropped without losing a total: property 7.

Today is 2026-11-08 and records are kept for five days, so a prune closes the days before
2026-11-04: the 1st has its own partition, the 2nd and 3rd are in the default partition.
"""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from functools import partial
from typing import Any

import pytest
from psycopg2 import errors

from tests.connections import ask, in_thread, run_sql, second_session, wait_until
from tests.exact import Rows, periods_of, plain_totals, stored_periods, totals_of
from tests.factories import data_record, make_subscription, refresh_and_seal, refresh_totals
from tests.refresh_steps import after
from tests.stepped_seal import READ_COMMITTED, REPEATABLE_READ, begin
from usage.errors import RefreshRunningError, TimeZoneChangedError
from usage.models import Subscription, UsageState
from usage.services.audit.verification import rebuild, verify
from usage.services.capture.sequences import is_closing
from usage.services.raw import locks
from usage.services.raw.partitions import make_partitions
from usage.services.steps import Step
from usage.services.totals import closing, dropping
from usage.services.totals.retention import prune

pytestmark = [
    pytest.mark.usefixtures("only_default_partitions", "closable_days"),
    pytest.mark.one_server("no record comes late there"),
]

SetToday = Callable[[str], None]
KEPT_FROM = date(2026, 11, 4)
INSERT = "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"


@pytest.fixture
def closable_days(
    only_default_partitions: None, set_today: SetToday, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "FENCE_SECONDS", 0.1)
    monkeypatch.setattr(locks, "TRIES", 2)
    monkeypatch.setattr(locks, "LOCK_MILLISECONDS", 20)
    make_partitions([date(2026, 11, 1)])
    for pk in (1, 2):
        subscription = make_subscription(id=pk)
        for day in range(1, 9):
            data_record(subscription, f"2026-11-0{day}T12:00:00Z", price="1.5", kilobytes=day)
    set_today("2026-11-08")
    refresh_and_seal()


def prune_when_passed() -> None:
    """Prune again until the fence has passed: other databases of the server may delay it."""
    for _ in range(300):
        if not prune().waits_for:
            return
    raise AssertionError("the fence did not pass")


def assert_closed(totals: Rows) -> None:
    """Assert that the records are dropped and that nothing changes these totals later."""
    assert UsageState.objects.get().raw_kept_from == KEPT_FROM
    assert plain_totals() == [row for row in totals if row[1] >= KEPT_FROM]
    run_sql(
        "INSERT INTO usage_late_key SELECT subscription_id, day, usage_type FROM usage_daily"
        " UNION VALUES (77, '2026-11-01'::date, 'data')"
    )
    assert totals_of("usage_daily_live") == totals
    refresh_totals()
    rebuild(from_date=date(2026, 10, 1), to_date=date(2026, 11, 30))
    assert verify(repair=True).differing == 0
    assert totals_of("usage_daily") == totals == totals_of("usage_daily_live")


def test_closed_days_keep_their_totals() -> None:
    """Fails when repair, rebuild or the live view read a closed day."""
    totals = totals_of("usage_daily")
    prune_when_passed()
    assert_closed(totals)


@pytest.mark.parametrize("level", [READ_COMMITTED, REPEATABLE_READ])
@pytest.mark.parametrize("writes_before", [None, Step.PRUNE_DAY_CHOSEN])
@pytest.mark.parametrize("commits_after", [Step.PRUNE_FENCED, None])
def test_writer_from_before_the_closing_is_waited_for_and_repaired(
    level: str, writes_before: Step | None, commits_after: Step | None
) -> None:
    """Fails when a prune does not wait for its fence, when it draws the fence before setval, and
    when it repairs nothing between the fence and the drop."""
    with second_session(autocommit=True) as session, ExitStack() as stack:
        begin(session, level)
        write = f"{INSERT} VALUES (3, '2026-11-01Z', 7); DELETE FROM usage_datausagerecord"
        write += " WHERE subscription_id = 2 AND usage_date < '2026-11-02Z'"
        if writes_before is None:
            ask(session, write)
        else:
            stack.enter_context(after(writes_before, partial(ask, session, write), once=True))
        if commits_after is None:
            report = prune()
            assert session.info.backend_pid in [blocker.pid for blocker in report.waits_for]
            assert (UsageState.objects.get().raw_kept_from, report.partitions_dropped) == (None, [])
            ask(session, "COMMIT")
        else:
            with after(commits_after, partial(ask, session, "COMMIT")):
                prune()
    prune_when_passed()
    totals = totals_of("usage_daily")
    assert [row[0] for row in totals if row[1] == date(2026, 11, 1)] == [1, 3]
    assert_closed(totals)


@pytest.mark.parametrize("level", [READ_COMMITTED, REPEATABLE_READ])
@pytest.mark.parametrize(
    "moment", [Step.PRUNE_CLOSED, Step.PRUNE_FENCED, Step.PRUNE_WAITED, Step.PRUNE_BEGAN]
)
def test_writer_after_the_closing_is_refused(level: str, moment: Step) -> None:
    """Fails when triggers read raw_kept_from from a table: an old snapshot has an old value."""
    refused: list[str] = []
    with second_session(autocommit=True) as session:

        def write() -> None:
            for statement in (
                f"{INSERT} VALUES (3, '2026-11-07Z', 1), (3, '2026-11-03Z', 1)",
                "UPDATE usage_datausagerecord SET price = 9 WHERE usage_date < '2026-11-03Z'",
                "UPDATE usage_datausagerecord SET usage_date = '2026-11-02Z'"
                " WHERE usage_date > '2026-11-07Z'",
                "DELETE FROM usage_datausagerecord WHERE usage_date < '2026-11-02Z'",
            ):
                begin(session, level)
                with pytest.raises(errors.CheckViolation) as caught:
                    ask(session, statement)
                refused.append(str(caught.value))
                ask(session, "ROLLBACK")

        totals = totals_of("usage_daily")
        with after(moment, write, once=True):
            prune()
    assert len(refused) == 4
    assert all("kept from 2026-11-04" in message for message in refused)
    prune_when_passed()
    assert_closed(totals)


class CutOffError(Exception):
    """The simulated end of a process in the middle of its work."""


@pytest.mark.parametrize("step", [step for step in Step if step.name.startswith("PRUNE_")])
def test_the_next_prune_continues_one_that_was_interrupted_at_any_step(step: Step) -> None:
    """Fails when raw_kept_from is set before the days are repaired and empty."""
    run_sql(f"{INSERT} VALUES (3, '2026-11-01Z', 7)")
    expected = plain_totals()

    def end() -> None:
        raise CutOffError

    with after(step, end), pytest.raises(CutOffError):
        prune()
    assert totals_of("usage_daily_live") == expected
    refresh_totals()
    assert totals_of("usage_daily") == expected
    prune_when_passed()
    assert_closed(expected)
    assert run_sql("SELECT to_regclass('usage_datausagerecord_p20261101')") == [(None,)]


def test_truncate_between_the_repair_and_the_drop_is_a_correction() -> None:
    """Fails when the drop does not search for late keys again."""
    with (
        after(Step.COMMITTED, partial(run_sql, "TRUNCATE usage_datausagerecord")),
        pytest.raises(RefreshRunningError, match="Run prune_usage again"),
    ):
        prune()
    prune_when_passed()
    assert_closed([])


def test_running_truncate_delays_the_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the raw tables are not locked before the drop searches for late keys: the totals
    would then stay, although the records were deleted before the drop."""
    run_sql("DROP TABLE usage_datausagerecord_p20261101, usage_voiceusagerecord_p20261101")
    waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname ="
    monkeypatch.setattr(locks, "LOCK_MILLISECONDS", 10_000)
    with second_session() as session, second_session(autocommit=True) as observer:
        truncate = partial(ask, session, "TRUNCATE usage_datausagerecord")
        with after(Step.PRUNE_BEGAN, truncate, once=True), in_thread(prune) as pruned:
            wait_until(
                lambda: ask(observer, f"{waits} current_database()"), what="the prune to wait"
            )
            session.commit()
            with pytest.raises(RefreshRunningError, match="Run prune_usage again"):
                pruned.result(30)
    prune_when_passed()
    assert_closed([])


def test_reader_delays_the_drop_and_never_fails() -> None:
    """This holds for the TRUNCATE and for the DROP; the next prune does what is left."""
    totals = totals_of("usage_daily")
    leaf = "usage_datausagerecord_p20261101"
    with second_session(autocommit=True) as session:
        begin(session, REPEATABLE_READ)
        report = prune()
        assert leaf in report.partitions_left
        assert UsageState.objects.get().raw_kept_from is None
        assert plain_totals(partial(ask, session)) == totals
        ask(session, "COMMIT")
        lock = f"BEGIN; LOCK TABLE {leaf} IN ACCESS SHARE MODE"
        with after(Step.PRUNE_COMMITTED, partial(ask, session, lock)):
            report = prune()
        assert report.partitions_left == [leaf]
        assert UsageState.objects.get().raw_kept_from == KEPT_FROM
        ask(session, "COMMIT")
    assert prune().partitions_dropped == [leaf]
    assert_closed(totals)


def test_prune_leaves_alone_what_another_one_finished(set_today: SetToday) -> None:
    """Fails when a prune that another prune has overtaken removes the fence of the next closing."""

    def overtake() -> None:
        prune_when_passed()
        set_today("2026-11-09")
        refresh_and_seal()
        closing.close(date(2026, 11, 5))

    totals = totals_of("usage_daily")
    with after(Step.COMMITTED, overtake, once=True):
        prune()
    state = UsageState.objects.get()
    assert (state.raw_kept_from, state.raw_fence is None) == (KEPT_FROM, False)
    assert totals_of("usage_daily") == totals


def test_totals_are_dropped_after_their_own_retention(settings: Any, set_today: SetToday) -> None:
    settings.USAGE_TOTALS_RETENTION_DAYS = 7
    prune_when_passed()
    totals = [row for row in totals_of("usage_daily") if row[1] >= date(2026, 11, 2)]
    assert len(totals) == 14
    assert_closed(totals)
    set_today("2026-11-10")
    assert prune(dry_run=True).totals_deleted == 4
    refresh_and_seal()
    prune_when_passed()
    assert {row[1].day for row in totals_of("usage_daily")} == {4, 5, 6, 7, 8}
    assert stored_periods() == periods_of(totals_of("usage_daily"))


def test_totals_whose_records_are_kept_stay(settings: Any) -> None:
    """Fails when totals are dropped by their age alone: the next repair would restore them."""
    settings.USAGE_TOTALS_RETENTION_DAYS = 1
    with second_session() as session:
        ask(session, f"{INSERT} VALUES (3, '2026-11-01Z', 7)")
        totals = totals_of("usage_daily")
        assert prune().waits_for
        assert totals_of("usage_daily") == totals


def test_a_prune_with_the_settings_of_another_database_closes_no_day(settings: Any) -> None:
    """Fails when only the refresh compares the settings: it runs after the closing."""
    settings.USAGE_TIME_ZONE = "Europe/London"
    with pytest.raises(TimeZoneChangedError, match="Set USAGE_TIME_ZONE=UTC"):
        prune()
    assert not is_closing(UsageState.objects.get())
    run_sql(f"{INSERT} VALUES (1, '2026-11-01T13:00:00Z', 1)")


def test_many_partitions_are_emptied_in_several_transactions(
    set_today: SetToday, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when one transaction locks all partitions, or when a prune that is interrupted between
    two transactions loses a partition."""
    monkeypatch.setattr(dropping, "DAYS_EMPTIED_AT_ONCE", 2)
    days = [date(2026, 10, day) for day in range(1, 6)]
    make_partitions(days)
    for day in days:
        data_record(Subscription.objects.get(id=1), f"{day}T12:00:00Z", price="1")
    refresh_totals()
    before = plain_totals()
    emptied: list[date] = []

    def end_in_the_second() -> None:
        if emptied:
            raise KeyboardInterrupt

    def note() -> None:
        emptied.append(UsageState.objects.get().raw_kept_from or date.max)

    with (
        after(Step.PRUNE_BEGAN, end_in_the_second),
        after(Step.PRUNE_EMPTIED, note),
        pytest.raises(KeyboardInterrupt),
    ):
        prune()
    state = UsageState.objects.get()
    assert emptied == [state.raw_kept_from] == [date(2026, 10, 3)]
    assert state.raw_fence is not None
    assert totals_of("usage_daily") == totals_of("usage_daily_live") == before
    report = prune()
    assert len(report.partitions_dropped) == 12
    assert totals_of("usage_daily") == totals_of("usage_daily_live") == before
    state = UsageState.objects.get()
    assert (state.raw_kept_from, state.raw_fence) == (KEPT_FROM, None)
