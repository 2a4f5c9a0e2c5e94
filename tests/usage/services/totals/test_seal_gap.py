"""No record is lost and no total is missing while a day is sealed: properties 2 and 3."""

from collections.abc import Callable
from itertools import combinations_with_replacement

import pytest

from tests.connections import ask, run_sql, second_session
from tests.exact import assert_exact, plain_totals, totals_of
from tests.factories import data_record, make_subscription, refresh_and_seal, refresh_totals
from tests.stepped_seal import (
    READ_COMMITTED,
    REPEATABLE_READ,
    STEPS,
    SteppedSeal,
    begin,
    is_sealed,
    write,
)
from usage.database.blockers import blockers
from usage.models import LateKey, UsageState
from usage.services.totals import sealing

pytestmark = [
    pytest.mark.usefixtures("usage_of_a_day_that_is_over"),
    pytest.mark.one_server("no record comes late there"),
]

SetToday = Callable[[str], None]


@pytest.mark.parametrize(
    ("level", "begins", "writes", "commits"),
    [
        (level, *steps)
        for level in (READ_COMMITTED, REPEATABLE_READ)
        for steps in combinations_with_replacement(range(STEPS), 3)
        # A READ COMMITTED transaction that has only begun has no snapshot and no id.
        if level == REPEATABLE_READ or steps[0] == steps[1]
    ],
)
def test_writer_across_a_seal_is_not_lost(
    level: str, begins: int, writes: int, commits: int, seal: SteppedSeal
) -> None:
    """Fails when the fence is drawn before setval or in its transaction, when the seal does not
    wait for the fence, when the triggers are off, when they read logging_before from a table (an
    old snapshot has an old value), and when another transaction deletes the late keys."""
    with second_session(autocommit=True) as session:

        def act(step: int) -> None:
            if step == begins:
                begin(session, level)
            if step == writes:
                write(session)
            if step == commits:
                ask(session, "COMMIT")

        seal.run(act)
        if writes <= 2 and commits >= 4:
            # The writer may have written without logging. At step 4 the snapshot is already taken.
            assert not is_sealed()
        elif commits == 5:
            refresh_and_seal()
            assert totals_of("usage_daily") == plain_totals()
        seal.step(5)
    refresh_and_seal()
    refresh_totals()
    assert is_sealed()
    assert {row[0] for row in totals_of("usage_daily")} == {4, 6, 7}
    assert_exact()
    assert LateKey.objects.count() == 0


def test_prepared_transaction_delays_the_seal_and_is_named(seal: SteppedSeal) -> None:
    """Also fails when the view is refreshed before the watermark moves: the day counts twice."""
    if run_sql("SHOW max_prepared_transactions") == [("0",)]:
        pytest.skip("the server allows no prepared transactions")
    with second_session(autocommit=True) as session:
        begin(session, READ_COMMITTED)
        write(session)
        ask(session, "PREPARE TRANSACTION 'seal gap'")
        try:
            seal.run(lambda _step: None)
            assert not is_sealed()
            named = [str(blocker) for blocker in blockers(UsageState.objects.get().fence or 0)]
            assert any("prepared transaction 'seal gap'" in line for line in named)
        finally:
            ask(session, "COMMIT PREPARED 'seal gap'")
    refresh_and_seal()
    assert_exact()


def test_fence_names_the_session_it_waits_for_and_is_not_renewed(
    seal: SteppedSeal, set_today: SetToday
) -> None:
    """Fails when each refresh draws a new fence: with steady writers it would never pass."""
    with second_session() as early, second_session() as late:
        write(early)
        seal.run(lambda _step: None)
        state = UsageState.objects.get()
        write_other = "INSERT INTO usage_voiceusagerecord VALUES (DEFAULT, 9, '2026-11-01Z', 1, 1)"
        ask(late, write_other)
        set_today("2026-11-05")
        refresh_totals()
        assert (UsageState.objects.get().fence, UsageState.objects.get().fence_day) == (
            state.fence,
            state.fence_day,
        )
        ours = [blocker for blocker in blockers(state.fence or 0) if blocker.pid]
        assert early.info.backend_pid in [blocker.pid for blocker in ours]
        assert late.info.backend_pid not in [blocker.pid for blocker in ours]
        assert f"pg_terminate_backend({early.info.backend_pid})" in " ".join(map(str, ours))
        early.commit()
        for _ in range(300):
            refresh_totals()
            if is_sealed():
                break
        assert is_sealed()
        late.commit()
    refresh_and_seal()
    assert_exact()


@pytest.mark.parametrize("level", [READ_COMMITTED, REPEATABLE_READ, "SERIALIZABLE"])
def test_reader_never_delays_a_seal_and_sees_no_change(level: str) -> None:
    with second_session(autocommit=True) as reader:
        begin(reader, level)
        before = totals_of("usage_daily_live", lambda query: ask(reader, query))
        refresh_and_seal()
        assert is_sealed()
        data_record(make_subscription(id=3), "2026-11-01T13:00:00Z", price="2")
        refresh_totals()
        if level != READ_COMMITTED:
            for relation, seen in [("usage_daily_live", before), ("usage_daily", [])]:
                assert totals_of(relation, lambda query: ask(reader, query)) == seen
    assert_exact()


def test_fence_of_a_restored_dump_is_drawn_anew() -> None:
    """Fails when a fence of another server is kept: it is in the future and may never pass."""
    sealing.announce_days()
    UsageState.objects.update(fence=2**60)
    refresh_and_seal()
    assert is_sealed()
    assert_exact()
