"""Indexes of the period totals that became loose are built anew, and nobody waits for it."""

from collections.abc import Iterator

import pytest

from tests.connections import ask, in_thread, run_sql, second_session, wait_until
from tests.exact import assert_exact, stored_periods
from tests.factories import data_record, make_subscription, refresh_totals
from usage.services import indexes
from usage.services.indexes import rebuild_loose
from worker.tasks import rebuild_indexes

pytestmark = pytest.mark.usefixtures("state")

BY_PRICE = {"usage_period_total_largest", "usage_period_total_price"}


def sizes() -> dict[str, int]:
    return dict(
        run_sql(
            "SELECT relname::text, pg_relation_size(oid) FROM pg_class"
            " WHERE relname LIKE 'usage\\_period\\_total\\_%' AND relkind = 'i'"
        )
    )


@pytest.fixture
def loose(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Totals of 4,000 subscriptions, whose prices moved past each other again and again."""
    monkeypatch.setattr(indexes, "SMALL_BYTES", 100_000)
    monkeypatch.setattr(indexes, "WAIT_SECONDS", 0.2)
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
    assert sizes().keys() == {"usage_period_total_pkey", *BY_PRICE}, "none is left behind"
    # Whoever changes totals by hand leaves none behind for other tests.
    run_sql("TRUNCATE usage_period_total")


def test_an_index_is_built_anew_once_it_is_loose(loose: None) -> None:
    """Fails when a loose index is let be, and when one that is as new is built again."""
    before, totals = sizes(), stored_periods()
    rebuilt = rebuild_indexes()
    assert set(rebuilt) >= BY_PRICE
    after = sizes()
    assert all(after[name] < before[name] / 1.4 for name in rebuilt)
    assert stored_periods() == totals
    assert rebuild_indexes() == [], "they are as new"
    assert run_sql("SHOW lock_timeout") == [("0",)], "the session is as it was"


def test_it_does_not_wait_for_long(loose: None) -> None:
    """Fails when it waits for a transaction without limit, or leaves behind what it began."""
    before = sizes()
    with second_session() as reader:
        ask(reader, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ask(reader, "SELECT count(*) FROM usage_state")
        assert rebuild_loose() == []
    assert sizes() == before
    assert set(rebuild_loose()) >= BY_PRICE


def test_what_could_not_be_dropped_is_dropped_by_the_next(loose: None) -> None:
    """Fails when only what this call began is dropped."""
    with second_session() as reader:
        ask(reader, "SELECT count(*) FROM usage_period_total")
        ask(reader, "DECLARE rows CURSOR FOR SELECT * FROM usage_period_total")
        assert rebuild_loose() == []
        assert len(sizes()) > 3
        assert rebuild_loose() == [], "it does not pile up"
        assert len(sizes()) == 4
    assert set(rebuild_loose()) >= BY_PRICE


def test_refreshes_and_readers_go_on_meanwhile(
    loose: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it locks out those who write totals or look at them."""
    monkeypatch.setattr(indexes, "WAIT_SECONDS", 60)
    run_sql("TRUNCATE usage_period_total")
    run_sql("UPDATE usage_state SET open_digest = NULL")
    subscription = make_subscription(id=1)
    refresh_totals()
    monkeypatch.setattr(indexes, "SMALL_BYTES", -1)
    monkeypatch.setattr(indexes, "LOOSE", indexes.LOOSE.replace("1.5 *", "-1 *"))
    with second_session() as reader, second_session() as watcher:
        watcher.autocommit = True
        ask(reader, "SELECT count(*) FROM usage_period_total")
        with in_thread(rebuild_loose) as rebuilding:
            wait_until(
                lambda: ask(
                    watcher,
                    "SELECT true FROM pg_stat_activity"
                    " WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock'",
                ),
                what="the build to wait",
            )
            data_record(subscription, "2026-11-02T10:00:00Z", price="5")
            refresh_totals()
            assert_exact()
            assert not rebuilding.done()
            reader.rollback()
            assert len(rebuilding.result()) == 3
    assert_exact()
