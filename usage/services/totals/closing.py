"""The closing of days before their raw records are dropped: closed days refuse records.

A fence then waits for every transaction that began before, since it may still write to these days.
"""

import time
from datetime import date

from django.db import transaction

from usage.database.blockers import Blocker, blockers
from usage.database.startup import compare_settings
from usage.errors import RefreshPausedError
from usage.models import UsageState
from usage.services.capture.sequences import closed_until, is_closing, move_forward
from usage.services.raw.fences import draw_fence, has_passed, is_from_another_server
from usage.services.raw.locks import take_refresh_lock
from usage.services.steps import Step, done

FENCE_SECONDS = 10.0


def close(first_kept: date) -> date:
    """Close the days before first_kept, then draw the fence; return the first day not closed.

    A pending closing keeps its fence: a new fence at each call would never pass.
    """
    with transaction.atomic(durable=True):
        take_refresh_lock()
        state = UsageState.objects.get()
        # Days that are closed stay closed, so the settings must be those of this database.
        compare_settings(state)
        if state.paused_at is not None:
            # Closed days must be repaired by a refresh before they are dropped.
            raise RefreshPausedError(
                f"Refreshes are paused since {state.paused_at:%Y-%m-%d %H:%M:%S} UTC, and no day "
                "can be dropped without one. Nothing was changed. Run: manage.py resume_refresh, "
                "then: manage.py prune_usage"
            )
        closed_before = closed_until()
        is_pending = is_closing(state)
        if is_pending and not is_from_another_server(state.raw_fence):
            return closed_before
        if not is_pending and first_kept <= (state.raw_kept_from or date.min):
            return state.raw_kept_from or first_kept
        done(Step.PRUNE_DAY_CHOSEN)
        move_forward("usage_raw_kept_from", first_kept)
        done(Step.PRUNE_MARK_MOVED)
    with transaction.atomic(durable=True):
        take_refresh_lock()
        done(Step.PRUNE_CLOSED)
        if is_closing(UsageState.objects.get()):  # False if another prune has ended the closing
            UsageState.objects.update(raw_fence=draw_fence())
            done(Step.PRUNE_FENCED)
    return max(first_kept, closed_before)


def wait_for_fence() -> list[Blocker]:
    """Wait up to FENCE_SECONDS for the fence; return the transactions that still block it."""
    deadline = time.monotonic() + FENCE_SECONDS
    while True:
        with transaction.atomic():
            fence = UsageState.objects.values_list("raw_fence", flat=True).get()
            # None means that another prune has ended the closing.
            if fence is None or has_passed(fence):
                return []
            waits_for = blockers(fence)
        if time.monotonic() > deadline:
            return waits_for
        time.sleep(0.1)
