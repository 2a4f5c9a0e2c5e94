"""Factories of raw records, tokens and clients, and helpers that refresh the totals."""

import time
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from usage.models import (
    DataUsageRecord,
    RefreshRun,
    Scope,
    Subscription,
    UsageState,
    VoiceUsageRecord,
)
from usage.services.accounts.tokens import make_token, note_use
from usage.services.totals.refresh import refresh

_numbers = count(1)


def make_subscription(external_id: str | None = None, **fields: Any) -> Subscription:
    return Subscription.objects.create(
        external_id=external_id or f"subscription {next(_numbers)}", **fields
    )


def data_record(
    subscription: Subscription, at: str, price: str = "0", kilobytes: int = 0
) -> DataUsageRecord:
    """Store a data record; `at` is an ISO 8601 moment with an offset or Z."""
    return DataUsageRecord.objects.create(
        subscription=subscription,
        usage_date=datetime.fromisoformat(at),
        price=Decimal(price),
        kilobytes_used=kilobytes,
    )


def voice_record(
    subscription: Subscription, at: str, price: str = "0", seconds: int = 0
) -> VoiceUsageRecord:
    """Store a voice record; `at` is an ISO 8601 moment with an offset or Z."""
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


def refresh_and_seal() -> RefreshRun:
    """Refresh until all days that have left the open days are sealed.

    A fence waits for every transaction of the server, also for those of other databases.
    """
    for _ in range(300):
        run = refresh_totals()
        state = UsageState.objects.get()
        if state.fence_day is not None and state.sealed_before == state.fence_day:
            return run
        time.sleep(0.1)
    raise AssertionError("the fence did not pass within 30 seconds")


def make_key(user: User, *scopes: Scope) -> str:
    """Return the key of a new token, by default with the scope usage:read.

    Its last use is stored already, so that a request does not write it.
    """
    token, key = make_token(user=user, name="test", scopes=scopes or [Scope.READ])
    note_use(token.pk)
    return key


def client_of(user: User, *scopes: Scope) -> APIClient:
    """Return an API client with a new token of this user."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {make_key(user, *scopes)}")
    return client
