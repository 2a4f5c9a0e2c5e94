"""Sealing days that are over: announced behind a fence, then written once.

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
from usage.services.changes import FINGERPRINT, Changes
from usage.services.fences import draw_fence, has_passed, is_from_another_server
from usage.services.locks import retry_locked, take_refresh_lock
from usage.services.partitions import LOCK_MILLISECONDS, TRIES, day_partitions, leaf_partitions
from usage.services.sequences import day_of, move_forward
from usage.services.startup import compare_settings

logger = logging.getLogger(__name__)

# One transaction seals for about this long, so that readers see progress and a kill costs little.
SEAL_SECONDS = 60

SEAL_DAYS = f"""
    WITH sealed AS (
        INSERT INTO usage_daily_sealed (
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        )
        SELECT
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        FROM usage_totals_of_days(%(first_day)s, %(last_day)s)
        -- The order of the primary key: each of its pages is visited once.
        ORDER BY subscription_id, day, usage_type
        RETURNING subscription_id, day, usage_type, total_price, total_usage, record_count
    ),

    noted AS (
        INSERT INTO usage_total_change (
            subscription_id, day, usage_type, total_price, total_usage, record_count
        )
        SELECT subscription_id, day, usage_type, total_price, total_usage, record_count
        FROM sealed
    )

    SELECT {FINGERPRINT} FROM sealed
"""  # noqa: S608 - a constant


def prepare() -> str:
    """Announce the next days to seal, when there are any: log first, then draw the fence.

    Runs on its own, before the transaction of the refresh. A writer whose trigger did not see the
    new logging_before began before the fence, and the days wait for it to end. Returns a remark
    when a sequence was behind the state, or the clock is too far ahead for retention; else "".
    """
    return f"{_catch_up_sequences()} {_announce()}".strip()


def _announce() -> str:
    with transaction.atomic(durable=True):
        take_refresh_lock()
        state = UsageState.objects.get()
        # Other settings may have other days open, and no day that was closed is opened again.
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
    # The sequence has moved for everybody: what begins from here on logs.
    with transaction.atomic(durable=True):
        take_refresh_lock()
        if day_of("usage_logging_before") >= target:  # else days were opened again meanwhile
            UsageState.objects.update(fence=draw_fence(), fence_day=target)
    return remark


def _today(state: UsageState) -> date:
    """The day by which days are sealed. In a window a sealed day is final, so a clock that jumped
    ahead does not count: prunes go on by a few days each."""
    if not state.is_window:
        return clock.today()
    step = reached_day.next_step(state)
    if step.days_left:
        return reached_day.look(state).day
    if step.day != state.reached_day:
        UsageState.objects.update(reached_day=step.day)
    return step.day


def _close_days(first_kept: date) -> None:
    """Refuse writers of the days before first_kept and let these be sealed.

    The lock this takes is the fence: whoever wrote before it has ended, whoever writes after it is
    refused. A table that stays locked is left to the next refresh, and the days stay open.
    """

    def work() -> None:
        with connection.cursor() as cursor:
            # Where raw records are spread over servers, each waits no longer than this one.
            cursor.execute("SET LOCAL citus.propagate_set_commands = 'local'")
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'")
            cursor.execute("SELECT usage_close_days(%s)", [first_kept])
        UsageState.objects.update(fence=None, fence_day=first_kept)

    if not retry_locked(work, tries=TRIES, milliseconds=LOCK_MILLISECONDS):
        logger.warning(
            "The days before %s are not sealed yet: a writer or reader of raw records held a table "
            "(manage.py usage_status names it). The next refresh tries again.",
            first_kept,
        )


def _catch_up_sequences() -> str:
    """A restore or logical replication may bring the state without the sequences.

    Returns a remark when a sequence was behind. Every fence goes first: a process that is killed
    between the two leaves no fence that was drawn before its sequence moved.
    """
    with transaction.atomic(durable=True):
        take_refresh_lock()
        compare_settings(UsageState.objects.get())
        behind = sequences.behind()
        if not behind:
            return ""
        # Records that came since the restore were not captured: a digest that no triggers have
        # makes the refreshes audit the kept sealed days.
        UsageState.objects.update(fence=None, raw_fence=None, capture_digest=UUID(int=0))
    for name, day in behind.items():
        if name == sequences.CHECK:
            _close_days(day)
        else:
            move_forward(name, day)
    names = " and ".join(behind)
    logger.error("The sequences were behind the state: %s. They were moved forward.", names)
    return (
        f"Moved forward, since usage_state is ahead, as after a restore without the values of "
        f"sequences: {names}. The next refreshes audit the sealed days, one each."
    )


def seal(state: UsageState, changes: Changes) -> int:
    """Seal the days before the fence day, oldest first, if the fence has passed.

    Returns how many days were sealed and leaves state.sealed_before where it got to; the rest is
    left to the next transaction when time is up. In a window a sealed day is final at once.
    """
    if state.fence_day is None or not state.has_days_to_seal:
        return 0
    # In a window the check that closed the days is the fence: without it no day is sealed.
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
            cursor.execute(SEAL_DAYS, {"first_day": days[0], "last_day": days[-1]})
            (fingerprint,) = cursor.fetchone()
            changes.add_written(fingerprint, days[0])
            sealed += len(days)
    state.sealed_before = end
    return sealed


def _stretches(own: set[date], strays: set[date]) -> list[list[date]]:
    """What one statement seals each: a day with a partition of its own, or all days between two
    such days, so that partitions they share are read once and not once a day."""
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
    """The days from first (None: the oldest) up to end, excluded, that may hold raw records."""
    own, strays = _days_by_place(first, end)
    return sorted(own | strays)


def _days_by_place(first: date | None, end: date) -> tuple[set[date], set[date]]:
    """The days of days_with_records: those of partitions that we made, and those of the records in
    any other partition, the default among them, which is read."""
    own: set[date] = set()
    strays: set[date] = set()
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            ours = {leaf: day for day, leaf in day_partitions(table).items()}
            # Where clocks go back over midnight, a partition may hold the end of the day before.
            own |= {day - timedelta(past) for day in ours.values() for past in (0, 1)}
            for leaf in leaf_partitions(table):
                if leaf not in ours:
                    cursor.execute(
                        sql.SQL("SELECT DISTINCT usage_day(usage_date) FROM {}").format(
                            leaf.identifier
                        )
                    )
                    strays |= {day for (day,) in cursor}

    def wanted(days: set[date]) -> set[date]:
        return {day for day in days if day < end and (first is None or day >= first)}

    return wanted(own), wanted(strays)


def kept_sealed_days(
    state: UsageState, from_date: date | None = None, to_date: date | None = None
) -> list[date]:
    """The sealed days whose raw records are kept, within the dates, oldest first."""
    if state.sealed_before is None:
        return []
    first = max(from_date or date.min, state.raw_kept_from or date.min)
    last = min(to_date or date.max, state.sealed_before - timedelta(1))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT day FROM usage_daily_sealed WHERE day BETWEEN %s AND %s", [first, last]
        )
        days = {day for (day,) in cursor}
    # A day that lost all its totals is found by its partition.
    days |= set(days_with_records(first, last + timedelta(1)))
    return sorted(days)
