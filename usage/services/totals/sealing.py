"""The seal of days that are over: announce them, wait for the fence, then write their totals once.

This is what happens after midnight. seal_days() runs inside the transaction of the refresh, in
REPEATABLE READ and under its lock.
"""

import logging
import time
from datetime import date, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from usage.database.startup import compare_settings
from usage.models import UsageState
from usage.services.capture import sequences
from usage.services.capture.sequences import move_forward
from usage.services.capture.strategies import Capture, capture_of, close_or_leave_open
from usage.services.raw import reached_day
from usage.services.raw.locks import take_refresh_lock
from usage.services.steps import Step, done
from usage.services.totals.changes import Changes
from usage.services.totals.days import days_by_place
from usage.sql import queries

logger = logging.getLogger(__name__)

# One transaction seals for about this long, so that readers see progress and a kill loses little.
SEAL_SECONDS = 60


def announce_days() -> str:
    """Announce the next days to seal, if any, and draw their fence.

    Runs in its own transactions, before that of the refresh. The days wait until every writer has
    ended who may not know of the announcement. Returns a remark if a sequence was behind the state
    or the clock is too far ahead for retention; otherwise "".
    """
    remarks = [_catch_up_sequences()]
    with transaction.atomic(durable=True):
        take_refresh_lock()
        state = UsageState.objects.get()
        # Settings of another database may close other days, and a closed day stays closed.
        compare_settings(state)
        if settings.USAGE_OPEN_DAYS is None or state.paused_at is not None:
            return remarks[0]
        remarks.append(str(reached_day.behind(state) or ""))
        capture = capture_of(state)
        day = _first_open_day(capture, settings.USAGE_OPEN_DAYS)
        if day is not None:
            done(Step.DAY_CHOSEN)
            capture.announce(day)
            done(Step.MARK_MOVED)
    if day is not None:
        capture.draw_fence(day)
    return " ".join(filter(None, remarks))


def _first_open_day(capture: Capture, open_days: int) -> date | None:
    """Return the day before which every day is over; None if these days are sealed or announced."""
    state = capture.state
    if state.has_days_to_seal:
        return state.fence_day if capture.needs_new_fence() else None
    day = capture.today() - timedelta(open_days - 1)
    return day if day > (state.sealed_before or date.min) else None


def _catch_up_sequences() -> str:
    """Move sequences forward that are behind the state; return a remark if there were any.

    A restore or logical replication may bring the state without the sequences. The fences are
    removed first: then a process that is killed in between leaves no fence that is older than the
    move of its sequence.
    """
    with transaction.atomic(durable=True):
        take_refresh_lock()
        compare_settings(UsageState.objects.get())
        behind = sequences.behind()
        if not behind:
            return ""
        # The triggers did not log records written since the restore. A digest that no triggers
        # have makes the refreshes audit the kept sealed days.
        UsageState.objects.update(fence=None, raw_fence=None, capture_digest=UUID(int=0))
    for name, day in behind.items():
        if name == sequences.CHECK:
            close_or_leave_open(day)
        else:
            move_forward(name, day)
    done(Step.SEQUENCES_MOVED)
    names = " and ".join(behind)
    logger.error("Sequences were behind usage_state and were moved forward: %s.", names)
    return (
        f"Moved sequences forward that were behind usage_state, as after a restore without their "
        f"values: {names}. The next refreshes audit the sealed days, one day each."
    )


def seal_days(state: UsageState, changes: Changes) -> int:
    """Seal the days before the fence day, oldest first, if the fence has passed. After midnight
    this is the day that has just left USAGE_OPEN_DAYS.

    Returns how many days were sealed, and sets state.sealed_before to the first day that was not.
    After SEAL_SECONDS the rest is left to the next transaction.
    """
    if state.fence_day is None or not state.has_days_to_seal:
        return 0
    capture = capture_of(state)
    if not capture.may_seal():
        return 0
    sealed = _seal_until(state, state.fence_day, changes)
    if capture.sealed_days_are_final:
        state.raw_kept_from = state.sealed_before
    done(Step.DAYS_SEALED)
    return sealed


def _seal_until(state: UsageState, end: date, changes: Changes) -> int:
    began = time.monotonic()
    sealed = 0
    with connection.cursor() as cursor:
        for days in _stretches(*days_by_place(state.sealed_before, end)):
            if sealed and time.monotonic() - began > SEAL_SECONDS:
                state.sealed_before = days[0]
                return sealed
            cursor.execute(queries.read("seal_days"), {"first_day": days[0], "last_day": days[-1]})
            (fingerprint,) = cursor.fetchone()
            changes.add_written(fingerprint, days[0])
            sealed += len(days)
    state.sealed_before = end
    return sealed


def _stretches(own: set[date], strays: set[date]) -> list[list[date]]:
    """Group the days into those that one statement seals: a day with its own partition, or all days
    between two such days. So shared partitions are read once, not once a day."""
    stretches: list[list[date]] = []
    is_open = False
    for day in sorted(own | strays):
        if is_open and day not in own:
            stretches[-1].append(day)
        else:
            stretches.append([day])
        is_open = day not in own
    return stretches
