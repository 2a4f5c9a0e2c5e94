"""The refresh: new totals, the first fill, pauses and settings. Properties 2, 4, 5 and 9."""

import pytest
from django.db import connection

from tests.factories import data_record, make_subscription, refresh_totals, voice_record
from usage.errors import RefreshFailedError
from usage.models import DailyUsage, RefreshRun, UsageState
from usage.services.totals.pause import pause, resume
from usage.services.totals.refresh import refresh

pytestmark = pytest.mark.usefixtures("state")


def test_new_records_appear_after_a_refresh() -> None:
    subscription = make_subscription()
    data_record(subscription, "2026-11-01T10:00:00Z", price="1.25", kilobytes=7)
    voice_record(subscription, "2026-11-01T11:00:00Z", price="0.50", seconds=60)
    assert DailyUsage.objects.count() == 0
    run = refresh_totals()
    assert run.open_rows == 2
    assert list(
        DailyUsage.objects.order_by("usage_type").values_list(
            "usage_type", "total_price", "total_usage", "record_count"
        )
    ) == [("data", 1.25, 7, 1), ("voice", 0.5, 60, 1)]


def test_unpopulated_view_is_filled_by_the_next_refresh() -> None:
    with connection.cursor() as cursor:
        cursor.execute("REFRESH MATERIALIZED VIEW usage_daily_open WITH NO DATA")
    assert refresh_totals().status == "success"


def test_paused_refresh_is_skipped_and_names_the_command_to_resume() -> None:
    pause()
    run = refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    assert run.status == "skipped"
    assert "resume_refresh" in run.error
    assert resume()
    assert refresh_totals().status == "success"


def test_another_zone_fails_and_names_both() -> None:
    UsageState.objects.update(time_zone="Europe/London")
    with pytest.raises(RefreshFailedError, match="Europe/London"):
        refresh(trigger=RefreshRun.Trigger.COMMAND)
    assert RefreshRun.objects.get().status == "failed"
