"""Property 12: a change of daily totals that is not noted is found in its own transaction.

The affected months are then added up again, and the run has a remark.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tests.connections import run_sql
from tests.exact import assert_exact
from tests.factories import data_record, make_subscription, refresh_and_seal, refresh_totals
from tests.replaced_queries import replace_query
from usage.models import DataUsageRecord, UsageState
from usage.services.audit.verification import rebuild
from usage.services.totals import periods
from usage.services.totals.retention import prune

pytestmark = pytest.mark.usefixtures("state")

REMARK = "were missing from the totals of months"
SPOIL = """;
    CREATE OR REPLACE FUNCTION pg_temp.spoil() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        {fault}
    END
    $body$;
    CREATE TRIGGER spoil BEFORE INSERT ON usage_total_change
    FOR EACH ROW EXECUTE FUNCTION pg_temp.spoil();
"""
LOST = "RETURN NULL;"
FAULTS = {
    "every note is lost": LOST,
    "additions are lost": "RETURN CASE WHEN new.record_count < 0 THEN new END;",
    "removals are lost": "RETURN CASE WHEN new.record_count > 0 THEN new END;",
    "a price is lost": "new.total_price := 0; RETURN new;",
    "a price is added to the usage": "new.total_usage := new.total_usage + 1;"
    " new.total_price := new.total_price - 1; RETURN new;",
    "a record is lost": "new.record_count := new.record_count - 1; RETURN new;",
    "another subscription is noted": "new.subscription_id := 3 - new.subscription_id; RETURN new;",
    "another month is noted": "new.day := new.day - 40; RETURN new;",
    "another type is noted": "new.usage_type := 'voice'; RETURN new;",
}


@pytest.fixture
def spoil_notes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that spoils every note by this body of a BEFORE INSERT row trigger."""
    add_up_again = periods.add_up_again

    def add_up_unspoiled(first_day: date) -> None:
        run_sql("DROP TRIGGER spoil ON usage_total_change")
        add_up_again(first_day)

    def spoil(fault: str) -> None:
        trigger = SPOIL.format(fault=fault)
        replace_query(monkeypatch, "create_total_change", lambda create: create + trigger)
        monkeypatch.setattr(periods, "add_up_again", add_up_unspoiled)

    return spoil


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_notes_of_open_days_are_found(
    fault: str, spoil_notes: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        make_subscription(id=number)
        data_record_of(number, "2026-10-31T12:00:00Z", price="1", kilobytes=5)
        data_record_of(number, "2026-11-01T12:00:00Z", price="4", kilobytes=7)
    assert refresh_totals().remark == ""
    data_record_of(1, "2026-11-01T13:00:00Z", price="2", kilobytes=9)
    DataUsageRecord.objects.filter(subscription_id=2, price=4).delete()
    spoil_notes(FAULTS[fault])
    run = refresh_totals()
    assert REMARK in run.remark
    assert "were not noted" in caplog.text
    assert_exact()


def data_record_of(subscription_id: int, at: str, *, price: str, kilobytes: int = 0) -> None:
    DataUsageRecord.objects.create(
        subscription_id=subscription_id, usage_date=at, price=price, kilobytes_used=kilobytes
    )


@pytest.fixture
def one_sealed_day(set_today: Callable[[str], None]) -> None:
    """Seal 1 November and leave 2 November open; subscription 1 has a record on each day."""
    set_today("2026-11-03")
    make_subscription(id=1)
    for day in ("2026-11-01", "2026-11-02"):
        data_record_of(1, f"{day}T12:00:00Z", price="1")
    refresh_and_seal()


def test_a_sealed_day_that_is_not_noted_is_found(
    one_sealed_day: None, spoil_notes: Callable[[str], None], set_today: Callable[[str], None]
) -> None:
    """That the day leaves the open view is noted, but not that it is added to sealed totals."""
    spoil_notes("RETURN CASE WHEN new.record_count < 0 THEN new END;")
    set_today("2026-11-04")
    assert REMARK in refresh_and_seal().remark
    assert UsageState.objects.get().sealed_before == date(2026, 11, 3)
    assert_exact()


@pytest.mark.one_server("no record comes late there")
@pytest.mark.parametrize("late_keys", [1, 1_200], ids=["by key", "by the whole day"])
def test_a_repair_that_is_not_noted_is_found(
    one_sealed_day: None, spoil_notes: Callable[[str], None], late_keys: int
) -> None:
    run_sql(
        "INSERT INTO usage_subscription (id, external_id, created_at)"
        " SELECT number, 'late ' || number, now() FROM generate_series(2, %s) AS keys (number)",
        [late_keys],
    )
    run_sql(
        "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
        " SELECT number, '2026-11-01 13:00Z', 2, 3 FROM generate_series(1, %s) AS keys (number)",
        [late_keys],
    )
    spoil_notes(LOST)
    run = refresh_totals()
    assert (run.keys_repaired, run.open_rows) == (late_keys, 1)
    assert REMARK in run.remark
    assert_exact()


@pytest.mark.one_server("no record comes late there")
def test_a_repair_that_removes_a_total_without_a_note_is_found(
    one_sealed_day: None, spoil_notes: Callable[[str], None]
) -> None:
    DataUsageRecord.objects.filter(usage_date__day=1).delete()
    spoil_notes(LOST)
    assert REMARK in refresh_totals().remark
    assert_exact()


@pytest.mark.one_server("no record comes late there")
def test_a_rebuild_that_is_not_noted_is_found(
    one_sealed_day: None, spoil_notes: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    run_sql(
        "INSERT INTO usage_datausagerecord_default (subscription_id, usage_date, kilobytes_used)"
        " VALUES (1, '2026-11-01 13:00Z', 5)"
    )
    spoil_notes(LOST)
    rebuild(from_date=date(2026, 11, 1), to_date=date(2026, 11, 1))
    assert "were not noted" in caplog.text
    assert_exact()


@pytest.mark.one_server("a day is final there as soon as it is sealed")
def test_totals_that_retention_deletes_without_a_note_are_found(
    one_sealed_day: None,
    spoil_notes: Callable[[str], None],
    set_today: Callable[[str], None],
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_today("2026-11-08")
    refresh_and_seal()
    settings.USAGE_TOTALS_RETENTION_DAYS = 7
    spoil_notes(LOST)
    assert prune().totals_deleted == 1
    assert "were not noted" in caplog.text
    assert run_sql("SELECT DISTINCT total_price FROM usage_period_total") == [(1,)]


def test_the_first_refresh_after_the_upgrade_counts_the_months_that_it_mends() -> None:
    """The migration sets open_digest to NULL, as does an audit that finds wrong months."""
    for number in (1, 2):
        make_subscription(id=number)
        data_record_of(number, "2026-11-01T12:00:00Z", price="1")
    assert refresh_totals().remark == ""
    run_sql("UPDATE usage_period_total SET total_price = 3 WHERE subscription_id = 2")
    UsageState.objects.update(open_digest=None)
    assert ": 2 were wrong or missing" in refresh_totals().remark
    assert_exact()


def test_a_view_that_was_refreshed_by_hand_gives_a_remark() -> None:
    data_record(make_subscription(id=1), "2026-11-01T12:00:00Z", price="1")
    refresh_totals()
    DataUsageRecord.objects.update(price=2)
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open")
    assert "was refreshed by hand or restored" in refresh_totals().remark
    assert_exact()
    assert refresh_totals().remark == ""


@pytest.mark.one_server("no record comes late there")
@pytest.mark.parametrize("by_hand", [False, True], ids=["as left", "refreshed by hand"])
def test_a_late_repair_of_an_earlier_month_is_added_up_with_the_open_days(
    by_hand: bool,
    set_today: Callable[[str], None],
    spoil_notes: Callable[[str], None],
    settings: Any,
) -> None:
    """Fails when only the months of open days, or of the last write, are added up again."""
    settings.USAGE_RAW_RETENTION_DAYS = 60
    set_today("2026-12-02")
    make_subscription(id=1)
    for day in ("2026-10-20", "2026-11-20", "2026-12-01"):
        data_record_of(1, f"{day}T12:00:00Z", price="1")
    refresh_and_seal()
    settings.USAGE_RAW_RETENTION_DAYS = 60
    for day in ("2026-10-20", "2026-11-20", "2026-12-01"):
        data_record_of(1, f"{day}T13:00:00Z", price="2")
    if by_hand:
        run_sql("REFRESH MATERIALIZED VIEW usage_daily_open")
    else:
        spoil_notes("new.day := new.day - 70; RETURN new;")
    run = refresh_totals()
    assert ("by hand" if by_hand else "from 2026-10-20 on were missing") in run.remark
    assert_exact()


@pytest.mark.one_server("no record comes late there")
def test_notes_of_months_before_the_affected_ones_are_not_used(
    one_sealed_day: None, spoil_notes: Callable[[str], None]
) -> None:
    data_record_of(1, "2026-11-02T13:00:00Z", price="2")
    spoil_notes("new.day := new.day - 40; RETURN new;")
    assert REMARK in refresh_totals().remark
    assert_exact()


def test_a_usage_that_is_noted_too_large_by_two_to_the_32nd_is_found(
    spoil_notes: Callable[[str], None],
) -> None:
    make_subscription(id=1)
    data_record_of(1, "2026-11-01T12:00:00Z", price="1")
    refresh_totals()
    data_record_of(1, "2026-11-01T13:00:00Z", price="1")
    spoil_notes("new.total_usage := new.total_usage + (1::bigint << 32); RETURN new;")
    assert REMARK in refresh_totals().remark
    assert_exact()
