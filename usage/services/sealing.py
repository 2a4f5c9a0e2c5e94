"""The seal of days that are over: announce them, wait for the fence, then write their totals once.

seal() runs inside the transaction of the refresh, in REPEATABLE READ and under its lock.
"""

import logging
import time
from datetime import date, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from psycopg2 import sql

from usage.models import RAW_TABLES, UsageState
from usage.services import clock, reached_day, sequences
from usage.services.changes import Changes
from usage.services.fences import draw_fence, has_passed, is_from_another_server
from usage.services.locks import retry_locked, take_refresh_lock
from usage.services.partitions import LOCK_MILLISECONDS, TRIES, day_partitions, leaf_partitions
from usage.services.sequences import day_of, move_forward
from usage.services.startup import compare_settings
from usage.sql import queries

logger = logging.getLogger(__name__)

# One transaction seals for about this long, so that readers see progress and a kill loses little.
SEAL_SECONDS = 60


def prepare() -> str:
    """Announce the next days to seal, if any: first let triggers log, then draw the fence.

    Runs in its own transactions, before that of the refresh. A writer whose trigger did not see the
    new usage_logging_before began before the fence, and the days wait until it has ended. Returns a
    remark if a sequence was behind the state or the clock is too far ahead for retention; otherwise
    "".
    """
    return f"{_catch_up_sequences()} {_announce()}".strip()


def _announce() -> str:
    with transaction.atomic(durable=True):
        take_refresh_lock()
        state = UsageState.objects.get()
        # Settings of another database may close other days, and a closed day stays closed.
        compare_settings(state)
        if settings.USAGE_OPEN_DAYS is None or state.paused_at is not None:
            return ""
        remark = str(reached_day.behind(state) or "")
        reached = state.sealed_before or date.min
        is_pending = state.has_days_to_seal
        if is_pending and (state.is_window or not is_from_another_server(state.fence)):
            return remark
        target = (
            state.fence_day
            if is_pending
            else _today(state) - timedelta(settings.USAGE_OPEN_DAYS - 1)
        )
        if target is None or (not is_pending and target <= reached):
            return remark
        move_forward("usage_logging_before", target)
        if state.is_window:
            move_forward("usage_raw_kept_from", target)
    if state.is_window:
        _close_days(target)
        return remark
    # The sequence has no snapshot: every statement that begins from here on logs.
    with transaction.atomic(durable=True):
        take_refresh_lock()
        if day_of("usage_logging_before") >= target:  # False if reopen_days moved it back meanwhile
            UsageState.objects.update(fence=draw_fence(), fence_day=target)
    return remark


def _today(state: UsageState) -> date:
    """Return the current day for sealing. In a window a sealed day is final, so the day follows
    the clock only by the steps of retention, a few days each."""
    if not state.is_window:
        return clock.today()
    step = reached_day.next_step(state)
    if step.days_left:
        return reached_day.look(state).day
    if step.day != state.reached_day:
        UsageState.objects.update(reached_day=step.day)
    return step.day


def _close_days(first_kept: date) -> None:
    """Close the days before first_kept in a window, so that they can be sealed.

    The exclusive lock is the fence: earlier writers have ended, and later ones are refused. If a
    table stays locked, the days stay open until the next refresh.
    """

    def work() -> None:
        with connection.cursor() as cursor:
            # On a cluster every server gets the same lock_timeout.
            cursor.execute("SET LOCAL citus.propagate_set_commands = 'local'")
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'")
            cursor.execute("SELECT usage_close_days(%s)", [first_kept])
        UsageState.objects.update(fence=None, fence_day=first_kept)

    if not retry_locked(work, tries=TRIES, milliseconds=LOCK_MILLISECONDS):
        logger.warning(
            "The days before %s are not sealed yet: a writer or reader of raw records held the "
            "lock of a table (manage.py usage_status names it). The next refresh tries again.",
            first_kept,
        )


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
            _close_days(day)
        else:
            move_forward(name, day)
    names = " and ".join(behind)
    logger.error("Sequences were behind usage_state and were moved forward: %s.", names)
    return (
        f"Moved sequences forward that were behind usage_state, as after a restore without their "
        f"values: {names}. The next refreshes audit the sealed days, one day each."
    )


def seal(state: UsageState, changes: Changes) -> int:
    """Seal the days before the fence day, oldest first, if the fence has passed.

    Returns how many days were sealed, and sets state.sealed_before to the first day that was not.
    After SEAL_SECONDS the rest is left to the next transaction. In a window a sealed day is final
    at once.
    """
    if state.fence_day is None or not state.has_days_to_seal:
        return 0
    # In a window the constraint that closes the days is the fence, so no day is sealed without it.
    if sequences.behind() if state.is_window else not has_passed(state.fence):
        return 0
    sealed = _seal_until(state, state.fence_day, changes)
    if state.is_window:
        state.raw_kept_from = state.sealed_before
    return sealed


def _seal_until(state: UsageState, end: date, changes: Changes) -> int:
    began = time.monotonic()
    sealed = 0
    with connection.cursor() as cursor:
        for days in _stretches(*_days_by_place(state.sealed_before, end)):
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


def days_with_records(first: date | None, end: date) -> list[date]:
    """Return the days from `first` (None: the oldest) up to `end`, excluded, that may have raw
    records."""
    own, strays = _days_by_place(first, end)
    return sorted(own | strays)


def _days_by_place(first: date | None, end: date) -> tuple[set[date], set[date]]:
    """Return the same days in two sets: days of our own partitions, and days of records in other
    partitions, such as the default one, whose records are read."""
    own: set[date] = set()
    strays: set[date] = set()
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            ours = {leaf: day for day, leaf in day_partitions(table).items()}
            # If clocks go back over midnight, a partition may hold the end of the day before.
            own |= {day - timedelta(past) for day in ours.values() for past in (0, 1)}
            for leaf in leaf_partitions(table):
                if leaf not in ours:
                    cursor.execute(
                        sql.SQL("SELECT DISTINCT usage_day(usage_date) FROM {}").format(
                            leaf.identifier
                        )
                    )
                    strays |= {day for (day,) in cursor}

    def within_bounds(days: set[date]) -> set[date]:
        return {day for day in days if day < end and (first is None or day >= first)}

    return within_bounds(own), within_bounds(strays)


def kept_sealed_days(
    state: UsageState, from_date: date | None = None, to_date: date | None = None
) -> list[date]:
    """Return the sealed days between the dates whose raw records are kept, oldest first."""
    if state.sealed_before is None:
        return []
    first = max(from_date or date.min, state.raw_kept_from or date.min)
    last = min(to_date or date.max, state.sealed_before - timedelta(1))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT day FROM usage_daily_sealed WHERE day BETWEEN %s AND %s", [first, last]
        )
        days = {day for (day,) in cursor}
    # Only its partition shows a day that lost all its totals.
    days |= set(days_with_records(first, last + timedelta(1)))
    return sorted(days)
