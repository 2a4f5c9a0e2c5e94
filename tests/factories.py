"""Build raw rows the way writers do, and refresh the totals the way beat does."""

from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any

from usage.models import DataUsageRecord, RefreshRun, Subscription, VoiceUsageRecord
from usage.services.refresh import refresh

_numbers = count(1)


def make_subscription(external_id: str | None = None, **fields: Any) -> Subscription:
    return Subscription.objects.create(
        external_id=external_id or f"subscription {next(_numbers)}", **fields
    )


def data_record(
    subscription: Subscription, at: str, price: str = "0", kilobytes: int = 0
) -> DataUsageRecord:
    """A data record; `at` is an ISO 8601 moment with an offset or Z."""
    return DataUsageRecord.objects.create(
        subscription=subscription,
        usage_date=datetime.fromisoformat(at),
        price=Decimal(price),
        kilobytes_used=kilobytes,
    )


def voice_record(
    subscription: Subscription, at: str, price: str = "0", seconds: int = 0
) -> VoiceUsageRecord:
    """A voice record; `at` is an ISO 8601 moment with an offset or Z."""
    return VoiceUsageRecord.objects.create(
        subscription=subscription,
        usage_date=datetime.fromisoformat(at),
        price=Decimal(price),
        seconds_used=seconds,
    )


def refresh_totals() -> RefreshRun:
    """Run the real refresh; it must succeed."""
    run = refresh(trigger=RefreshRun.Trigger.COMMAND)
    assert run.status == RefreshRun.Status.SUCCESS, run.error
    return run
