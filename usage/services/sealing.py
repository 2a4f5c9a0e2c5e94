"""Sealing days that are over: announced behind a fence, then written once.

seal() runs inside the transaction of the refresh, in REPEATABLE READ and under its lock.
"""

import logging
import time
from datetime import date, timedelta

from django.conf import settings
from django.db import connection, transaction
from psycopg2 import sql

from usage.models import UsageState
from usage.services import clock, sequences
from usage.services.changes import FINGERPRINT, Changes
from usage.services.fences import draw_fence, has_passed, is_from_another_server
from usage.services.locks import retry_locked, take_refresh_lock
from usage.services.partitions import (
    LOCK_MILLISECONDS,
    RAW_TABLES,
    TRIES,
    leaf_name,
    leaf_partitions,
    partition_days,
)
from usage.services.sequences import move_forward
from usage.services.startup import compare_settings

logger = logging.getLogger(__name__)

# One transaction seals for about this long, so that readers see progress and a kill costs little.
SEAL_SECONDS = 60

SEAL_DAY = f"""
    WITH sealed AS (
        INSERT INTO usage_daily_sealed (
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        )
        SELECT
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        FROM usage_totals_of_days(%(day)s, %(day)s)
        -- The order of the primary key: each of its pages is visited once.
        ORDER BY subscription_id, usage_type
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
    when a sequence was behind the state.
    """
    remark = _catch_up_sequences()
    _announce()
    return remark


def _announce() -> None:
    with transaction.atomic(durable=True):
        take_refresh_lock()
        state = UsageState.objects.get()
        # Other settings may have other days open, and no day that was closed is opened again.
        compare_settings(state)
        if settings.USAGE_OPEN_DAYS is None or state.paused_at is not None:
            return
        reached = state.sealed_before or date.min
        is_pending = state.has_days_to_seal
        if is_pending and (state.is_window or not is_from_another_server(state.fence)):
            return
        target = (
            state.fence_day
            if is_pending
            else clock.today() - timedelta(settings.USAGE_OPEN_DAYS - 1)
        )
        if target is None or (not is_pending and target <= reached):
            return
        move_forward("usage_logging_before", target)
        if state.is_window:
            move_forward("usage_raw_kept_from", target)
    if state.is_window:
        _close_days(target)
        return
    # The sequence has moved for everybody: what begins from here on logs.
    with transaction.atomic(durable=True):
        take_refresh_lock()
        UsageState.objects.update(fence=draw_fence(), fence_day=target)


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
        UsageState.objects.update(fence=None, raw_fence=None)
    for sequence, day in behind.items():
        move_forward(sequence, day)
    names = " and ".join(behind)
    logger.error("The sequences were behind the state: %s. They were moved forward.", names)
    return (
        f"{names} were behind usage_state, as after a restore without the values of sequences, and "
        "were moved forward. Records of earlier days that were written since the restore may be "
        "missing from the totals. Run: manage.py verify_usage --repair"
    )


def seal(state: UsageState, changes: Changes) -> int:
    """Seal the days before the fence day, oldest first, if the fence has passed.

    Returns how many days were sealed and leaves state.sealed_before where it got to; the rest is
    left to the next transaction when time is up. In a window a sealed day is final at once.
    """
    if state.fence_day is None or not state.has_days_to_seal:
        return 0
    if not (state.is_window or has_passed(state.fence)):
        return 0
    sealed = _seal_until(state, state.fence_day, changes)
    if state.is_window:
        state.raw_kept_from = state.sealed_before
    return sealed


def _seal_until(state: UsageState, end: date, changes: Changes) -> int:
    began = time.monotonic()
    sealed = 0
    with connection.cursor() as cursor:
        for day in days_with_records(state.sealed_before, end):
            if sealed and time.monotonic() - began > SEAL_SECONDS:
                state.sealed_before = day
                return sealed
            cursor.execute(SEAL_DAY, {"day": day})
            (fingerprint,) = cursor.fetchone()
            changes.add_written(fingerprint, day)
            sealed += 1
    state.sealed_before = end
    return sealed


def days_with_records(first: date | None, end: date) -> list[date]:
    """The days from first (None: the oldest) up to end, excluded, that may hold raw records.

    A partition that we made is its day; any other one, the default among them, is read.
    """
    days: set[date] = set()
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            ours = {leaf_name(table, day): day for day in partition_days(table)}
            # Where clocks go back over midnight, a partition may hold the end of the day before.
            days |= {day - timedelta(past) for day in ours.values() for past in (0, 1)}
            for leaf in leaf_partitions(table):
                if leaf not in ours:
                    cursor.execute(
                        sql.SQL("SELECT DISTINCT usage_day(usage_date) FROM {}").format(
                            sql.Identifier(leaf)
                        )
                    )
                    days |= {day for (day,) in cursor}
    return sorted(day for day in days if day < end and (first is None or day >= first))
