"""The pause of refreshes."""

from datetime import datetime

from django.db import transaction
from django.db.models.functions import Now

from usage.models import UsageState
from usage.services.raw.locks import take_refresh_lock

# How long pause() waits for a running refresh.
PAUSE_SECONDS = 60


def pause() -> datetime:
    """Pause refreshes until resume() and return when they were paused; no refresh runs then.

    Waits a minute for a running refresh, then raises RefreshRunningError.
    """
    with transaction.atomic():
        take_refresh_lock(wait_seconds=PAUSE_SECONDS)
        UsageState.objects.filter(paused_at=None).update(paused_at=Now())
        paused_at = UsageState.objects.values_list("paused_at", flat=True).get()
    assert paused_at is not None  # noqa: S101 - set above, under the lock
    return paused_at


def resume() -> bool:
    """Let refreshes run again; return False if they were not paused."""
    with transaction.atomic():
        take_refresh_lock(wait_seconds=PAUSE_SECONDS)
        return bool(UsageState.objects.exclude(paused_at=None).update(paused_at=None))
