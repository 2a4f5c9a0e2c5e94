"""Loose indexes of the period totals are rebuilt, and nobody waits for it."""

from collections.abc import Iterator
from threading import Timer

import pytest
from django.db import IntegrityError, OperationalError

from tests.connections import ask, in_thread, run_sql, second_session, wait_until
from tests.exact import assert_exact, stored_periods
from tests.factories import data_record, make_subscription, refresh_totals
from usage.errors import IndexesHeldError
from usage.services.totals import indexes
from usage.services.totals.indexes import rebuild_loose
from worker.tasks import rebuild_indexes

BY_PRICE = ["usage_period_total_largest", "usage_period_total_price"]


def sizes() -> dict[str, int]:
    return dict(
        run_sql(
            "SELECT index.relname::text, pg_relation_size(indexrelid) FROM pg_index"
            " INNER JOIN pg_class AS index ON index.oid = indexrelid"
            " WHERE indrelid = 'usage_period_total'::regclass"
        )
    )


@pytest.fixture(autouse=True)
def loose(state: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the indexes loose: the prices of 4,000 subscriptions change their order many times."""
    monkeypatch.setattr(indexes, "SMALL_BYTES", 100_000)
    monkeypatch.setattr(indexes, "WAIT_SECONDS", 0.2)
    # Autovacuum gives up its lock for a build only after a second.
    run_sql("ALTER TABLE usage_period_total SET (autovacuum_enabled = false)")
    run_sql(
        "INSERT INTO usage_period_total SELECT n, '2026-11-01', 'data', n + 0.00000001, 1, 1, true"
        " FROM generate_series(1, 4000) AS numbers (n)"
    )
    for _ in range(6):
        run_sql(
            "UPDATE usage_period_total SET total_price = round(4000 * random()::numeric, 8)"
            " WHERE random() < 0.5"
        )
        run_sql("VACUUM usage_period_total")
    yield
    run_sql("ALTER TABLE usage_period_total RESET (autovacuum_enabled)")
    assert sizes().keys() == {"usage_period_total_pkey", *BY_PRICE}, "none is left behind"


def test_an_index_is_rebuilt_once_it_is_loose() -> None:
    """Fails when a loose index is left alone, and when a compact one is rebuilt."""
    before, totals = sizes(), stored_periods()
    assert rebuild_indexes() == BY_PRICE
    after = sizes()
    assert all(after[name] < before[name] / 1.4 for name in BY_PRICE)
    assert stored_periods() == totals
    assert rebuild_indexes() == [], "they are as new"
    for setting in ("lock_timeout", "statement_timeout"):
        assert run_sql(f"SHOW {setting}") == [("0",)], "the session is as it was"


def test_it_does_not_wait_for_long() -> None:
    """Fails when the build waits for a transaction without limit, or leaves an invalid index."""
    before = sizes()
    with second_session() as reader:
        ask(reader, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ask(reader, "SELECT count(*) FROM usage_state")
        with pytest.raises(IndexesHeldError):
            rebuild_loose()
    assert sizes() == before
    assert rebuild_loose() == BY_PRICE


def test_a_build_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when only a build that waited too long is cleaned up."""
    before = sizes()
    monkeypatch.setattr(indexes, "BUILD_SECONDS", 0.1)
    monkeypatch.setattr(indexes, "WAIT_SECONDS", 10)
    with second_session() as reader:
        ask(reader, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ask(reader, "SELECT count(*) FROM usage_state")
        with pytest.raises(OperationalError, match="statement timeout"):
            rebuild_loose()
    assert sizes() == before


def test_the_next_build_drops_what_an_earlier_one_could_not() -> None:
    """Fails when a call drops only the index that it began itself, or indexes of others too."""
    with pytest.raises(IntegrityError):
        run_sql("CREATE UNIQUE INDEX CONCURRENTLY by_hand ON usage_period_total (period)")
    with second_session() as reader:
        ask(reader, "SELECT count(*) FROM usage_period_total")
        ask(reader, "DECLARE rows CURSOR FOR SELECT * FROM usage_period_total")
        for _ in range(2):
            with pytest.raises(IndexesHeldError):
                rebuild_loose()
            assert len(sizes()) == 5, "it doesn't pile up"
    assert rebuild_loose() == BY_PRICE
    run_sql("DROP INDEX by_hand")


def test_beats_worker_tries_again_later() -> None:
    with second_session() as reader:
        ask(reader, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ask(reader, "SELECT count(*) FROM usage_state")
        leaving = Timer(0.5, reader.rollback)
        leaving.start()
        assert rebuild_indexes.apply().get() == BY_PRICE
        leaving.join()


def test_readers_and_writers_go_on_during_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the build locks out writers or readers of totals, and when it deadlocks with a
    build of another worker."""
    monkeypatch.setattr(indexes, "WAIT_SECONDS", 60)
    with second_session() as reader, second_session(autocommit=True) as watcher:
        ask(reader, "SELECT count(*) FROM usage_period_total")
        with in_thread(rebuild_loose) as building:
            wait_until(
                lambda: ask(
                    watcher,
                    "SELECT true FROM pg_stat_activity"
                    " WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock'",
                ),
                what="the build to wait",
            )
            assert rebuild_loose() == []
            data_record(make_subscription(id=1), "2026-11-02T10:00:00Z", price="5")
            refresh_totals()
            assert_exact()
            assert not building.done()
            reader.rollback()
            assert building.result() == BY_PRICE
    assert_exact()
