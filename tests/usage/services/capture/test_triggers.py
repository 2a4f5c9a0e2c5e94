"""Triggers that are off, or were off: checks find them, one command mends them, and sealed days
whose changes they may have missed are computed again."""

from collections.abc import Callable, Iterator
from datetime import date
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.connections import ask, run_sql, second_session
from tests.exact import assert_exact
from tests.factories import data_record, make_subscription, refresh_and_seal, refresh_totals
from usage.errors import CaptureOffError, RefreshRunningError
from usage.models import DataUsageRecord, LateKeysMode, UsageState
from usage.monitoring.health import look
from usage.services.audit.verification import verify
from usage.services.capture import triggers
from usage.services.capture.sequences import closed_until
from usage.services.raw import locks
from usage.services.raw.partitions import make_partitions
from usage.services.totals.retention import prune
from usage.sql import capture

pytestmark = pytest.mark.one_server("raw tables have no triggers there")

ON = "ENABLE ALWAYS TRIGGER"
OFF = {
    "DISABLE TRIGGER": "is disabled",
    "ENABLE TRIGGER": "it is ORIGIN, not ALWAYS",
    "ENABLE REPLICA TRIGGER": "it is REPLICA, not ALWAYS",
}


@pytest.fixture(autouse=True)
def mended_afterwards(state: None) -> Iterator[None]:
    yield
    triggers.enable()


@pytest.fixture
def sealed_days(set_today: Callable[[str], None], settings: Any) -> None:
    """Make a record on each day from 1 to 4 November; the first three days are sealed."""
    set_today("2026-11-05")
    settings.USAGE_RAW_RETENTION_DAYS = 30
    subscription = make_subscription(id=1)
    for day in range(1, 5):
        data_record(subscription, f"2026-11-0{day}T12:00:00Z", price="1")
    refresh_and_seal()


def alter(how: str, trigger: str, table: str = "usage_datausagerecord") -> None:
    run_sql(f"ALTER TABLE {table} {how} {trigger}")


@pytest.mark.parametrize("how", OFF)
@pytest.mark.parametrize("trigger", capture.TRIGGERS)
def test_a_trigger_that_is_off_is_named_everywhere(trigger: str, how: str) -> None:
    refresh_totals()
    table = "usage_voiceusagerecord"
    alter(how, trigger, table)
    faults = triggers.faults()
    assert f"trigger {trigger} of {table} " in faults[0]
    assert all(OFF[how] in fault for fault in faults)
    assert "manage.py enable_triggers" in refresh_totals().remark
    out = StringIO()
    call_command("usage_status", stdout=out)
    assert f"trigger {trigger} of {table} " in out.getvalue()
    with pytest.raises(CommandError, match=trigger):
        call_command("check", databases=["default"])
    [readiness] = [check for check in look() if check.name == "capture"]
    assert not readiness.ok
    call_command("enable_triggers", stdout=out)
    assert triggers.faults() == []
    call_command("check", databases=["default"])
    assert all(check.ok for check in look() if check.name == "capture")


def test_a_trigger_that_is_missing_is_made() -> None:
    refresh_totals()
    run_sql("DROP TRIGGER usage_log_late_keys_delete ON usage_datausagerecord")
    [fault] = triggers.faults()
    assert fault == "trigger usage_log_late_keys_delete of usage_datausagerecord is missing"
    out = StringIO()
    call_command("enable_triggers", dry_run=True, stdout=out)
    assert out.getvalue() == f"Found: {fault}.\nNothing was changed.\n"
    assert triggers.faults() == [fault]
    call_command("enable_triggers", stdout=out)
    assert triggers.faults() == []


def test_a_row_trigger_that_is_off_on_one_partition_is_named(sealed_days: None) -> None:
    make_partitions([date(2026, 12, 1)])
    leaf = "usage_datausagerecord_p20261201"
    alter("DISABLE TRIGGER", "usage_log_late_keys_move", leaf)
    [fault] = triggers.faults()
    assert fault == f"trigger usage_log_late_keys_move of {leaf} is disabled"
    triggers.enable()
    assert triggers.faults() == []
    run_sql(f"DROP TABLE {leaf}; DROP TABLE usage_voiceusagerecord_p20261201")


def test_in_a_window_the_triggers_it_does_not_need_are_no_fault(
    switch_to: Callable[[LateKeysMode], None], set_today: Callable[[str], None]
) -> None:
    set_today("2026-11-05")
    switch_to(LateKeysMode.WINDOW)
    assert triggers.faults() == []
    alter("DISABLE TRIGGER", "usage_log_late_keys_delete")
    assert len(triggers.faults()) == 1
    triggers.enable()
    assert triggers.faults() == []
    assert run_sql(
        "SELECT count(*) FROM pg_trigger WHERE tgname = ANY(%s)",
        [list(capture.NEEDLESS_IN_A_WINDOW)],
    ) == [(0,)]


def test_days_that_a_gap_left_wrong_are_mended_one_a_refresh(sealed_days: None) -> None:
    """Fails when nobody notices that a trigger was off and is on again."""
    alter("DISABLE TRIGGER", "usage_log_late_keys_update")
    DataUsageRecord.objects.filter(usage_date__day__lte=2).update(price=7)
    alter(ON, "usage_log_late_keys_update")
    runs = [refresh_totals() for _ in range(4)]
    assert [run.remark.partition("again: ")[2] for run in runs] == [
        "1 totals were wrong. 2 more days must be audited.",
        "1 totals were wrong. 1 more days must be audited.",
        "0 totals were wrong. 0 more days must be audited.",
        "",
    ]
    assert "2026-11-01 was computed again" in runs[0].remark
    assert UsageState.objects.get().unaudited_days is None
    assert_exact()


def test_status_lists_the_days_that_are_left(sealed_days: None) -> None:
    alter("DISABLE TRIGGER", "usage_log_late_keys_update")
    alter(ON, "usage_log_late_keys_update")
    refresh_totals()
    out = StringIO()
    call_command("usage_status", stdout=out)
    assert "unaudited     2026-11-02, 2026-11-03: " in out.getvalue()


def test_no_day_is_audited_while_a_trigger_is_off(sealed_days: None) -> None:
    """More changes may be missed, so the audit begins when every trigger is on."""
    alter("DISABLE TRIGGER", "usage_log_late_keys_insert")
    assert refresh_totals().keys_repaired == 0
    assert len(UsageState.objects.get().unaudited) == 3
    data_record_late()
    refresh_totals()
    assert len(UsageState.objects.get().unaudited) == 3
    call_command("enable_triggers", stdout=StringIO())
    for _ in range(3):
        refresh_totals()
    assert_exact()


def data_record_late(subscription_id: int = 1) -> None:
    DataUsageRecord.objects.create(
        subscription_id=subscription_id,
        usage_date="2026-11-01T13:00:00Z",
        price="3",
        kilobytes_used=1,
    )


def test_nothing_is_dropped_while_a_trigger_is_off_or_a_day_is_unaudited(
    sealed_days: None, set_today: Callable[[str], None], settings: Any
) -> None:
    """Fails when a prune drops records that an audit still needs."""
    settings.USAGE_RAW_RETENTION_DAYS = 3
    alter("DISABLE TRIGGER", "usage_log_late_keys_insert")
    data_record_late()
    with pytest.raises(CaptureOffError, match="usage_log_late_keys_insert"):
        prune()
    alter(ON, "usage_log_late_keys_insert")
    with pytest.raises(RefreshRunningError, match="must be audited"):
        prune()
    assert UsageState.objects.get().raw_kept_from is None
    for _ in range(3):
        refresh_totals()
    prune()
    assert run_sql("SELECT total_price FROM usage_daily WHERE day = '2026-11-01'") == [(4,)]
    assert UsageState.objects.get().raw_kept_from == date(2026, 11, 3)


def test_a_day_that_is_unaudited_is_not_closed(sealed_days: None, settings: Any) -> None:
    """Fails when triggers refuse records of the day although it cannot be dropped yet."""
    settings.USAGE_RAW_RETENTION_DAYS = 3
    alter("DISABLE TRIGGER", "usage_log_late_keys_insert")
    alter(ON, "usage_log_late_keys_insert")
    refresh_totals()
    prune()
    assert closed_until() == date(2026, 11, 2)


def test_partitions_that_are_made_and_dropped_are_no_gap(
    sealed_days: None, set_today: Callable[[str], None], settings: Any
) -> None:
    make_partitions([date(2026, 12, 1)])
    assert refresh_totals().remark == ""
    run_sql(
        "DROP TABLE usage_datausagerecord_p20261201; DROP TABLE usage_voiceusagerecord_p20261201"
    )
    assert refresh_totals().remark == ""
    assert UsageState.objects.get().unaudited_days is None


def test_a_row_trigger_that_was_off_on_one_partition_is_a_gap(
    sealed_days: None, set_today: Callable[[str], None]
) -> None:
    """Fails when the check ignores the triggers of partitions."""
    make_partitions([date(2026, 12, 1), date(2026, 12, 2)])
    assert refresh_totals().remark == ""
    leaf = "usage_datausagerecord_p20261201"
    alter("DISABLE TRIGGER", "usage_log_late_keys_move", leaf)
    alter(ON, "usage_log_late_keys_move", leaf)
    assert "2026-11-01 was computed again" in refresh_totals().remark
    for table in ("usage_datausagerecord", "usage_voiceusagerecord"):
        run_sql(f"DROP TABLE {table}_p20261201; DROP TABLE {table}_p20261202")


def test_a_day_that_lost_its_totals_and_gets_a_record_in_a_gap_is_computed_again(
    sealed_days: None,
) -> None:
    """Fails when only days with sealed totals count as unaudited."""
    DataUsageRecord.objects.filter(usage_date__day=1).delete()
    refresh_totals()
    alter("DISABLE TRIGGER", "usage_log_late_keys_insert")
    data_record_late()
    alter(ON, "usage_log_late_keys_insert")
    for _ in range(3):
        refresh_totals()
    assert_exact()


def test_going_to_a_window_leaves_no_day_unaudited(
    sealed_days: None, switch_to: Callable[[LateKeysMode], None], settings: Any
) -> None:
    """Fails when an audit writes sealed totals of a day that is open again: it counts twice."""
    alter("DISABLE TRIGGER", "usage_log_late_keys_update")
    alter(ON, "usage_log_late_keys_update")
    refresh_totals()
    assert len(UsageState.objects.get().unaudited) == 2
    settings.USAGE_OPEN_DAYS = settings.USAGE_RAW_RETENTION_DAYS = 10
    switch_to(LateKeysMode.WINDOW)
    assert UsageState.objects.get().unaudited == []
    assert [refresh_totals().remark for _ in range(3)] == [""] * 3
    assert_exact()


def test_an_open_day_is_never_audited(sealed_days: None) -> None:
    UsageState.objects.update(unaudited_days=[date(2026, 11, 4), date(2026, 11, 5)])
    assert refresh_totals().remark == ""
    assert UsageState.objects.get().unaudited_days is None
    assert_exact()


def test_enabling_beside_a_writer_fails_with_the_reason(
    sealed_days: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter("DISABLE TRIGGER", "usage_log_late_keys_insert")
    monkeypatch.setattr(locks, "TRIES", 2)
    with second_session() as writer:
        ask(writer, "UPDATE usage_voiceusagerecord SET price = 1")
        with pytest.raises(
            CommandError, match="a writer or reader of raw records held the lock of a table"
        ):
            call_command("enable_triggers", stdout=StringIO())
    assert len(triggers.faults()) == 1


def test_a_day_that_lacks_records_after_a_gap_stays_unaudited_and_is_not_dropped(
    sealed_days: None, settings: Any
) -> None:
    """Fails when the day counts as audited although the audit must not remove totals: a prune would
    then make them final."""
    make_subscription(id=2)
    data_record_late(2)
    refresh_totals()
    settings.USAGE_RAW_RETENTION_DAYS = 3
    for trigger in ("usage_log_late_keys_insert", "usage_log_late_keys_delete"):
        alter("DISABLE TRIGGER", trigger)
    DataUsageRecord.objects.filter(usage_date__day=1, subscription_id=1).delete()
    data_record_late(2)
    triggers.enable()
    runs = [refresh_totals() for _ in range(6)]
    assert "on 2026-11-01: 1 of 2 totals have no raw record" in runs[0].remark
    assert "2026-11-01 was computed again" in runs[-1].remark
    assert UsageState.objects.get().unaudited == [date(2026, 11, 1)]
    # The totals include the late records of the day, and the total without records is kept.
    assert run_sql(
        "SELECT subscription_id, total_price FROM usage_daily WHERE day = '2026-11-01' ORDER BY 1"
    ) == [(1, 1), (2, 6)]
    prune()
    assert closed_until() == date(2026, 11, 1)
    verify(repair=True, remove=True)
    refresh_totals()
    assert UsageState.objects.get().unaudited == []
    assert_exact()
