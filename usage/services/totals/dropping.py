"""The drop of the raw records of closed days: their partitions are emptied, then dropped."""

import logging
from dataclasses import dataclass, field
from datetime import date
from functools import partial

from django.db import connection
from psycopg2 import sql

from usage.database.blockers import Blocker
from usage.errors import CaptureOffError, RefreshRunningError
from usage.models import RAW_TABLES, LateKey, UsageState
from usage.services.capture import triggers
from usage.services.capture.sequences import closed_until
from usage.services.raw.locks import lock_raw_tables, retry_locked
from usage.services.raw.partitions import Leaf, day_partitions, default_partition, partition_days
from usage.services.steps import Step, done
from usage.services.totals import unaudited_days

logger = logging.getLogger(__name__)

# The most days whose partitions one transaction empties: each lock takes room in the lock table,
# which all databases of the server share.
DAYS_EMPTIED_AT_ONCE = 50


@dataclass
class PruneReport:
    """The result of a prune or, with dry_run, what it would do.

    `held` says why the prune did not reach the day of the clock; it is empty if it did.
    """

    first_kept_day: date | None = None
    partitions_dropped: list[str] = field(default_factory=list)
    partitions_left: list[str] = field(default_factory=list)
    strays_deleted: int = 0
    future_deleted: int = 0
    future_after: date | None = None
    totals_deleted: int = 0
    held: str = ""
    waits_for: list[Blocker] = field(default_factory=list)


def empty_days(first_kept: date, report: PruneReport) -> bool:
    """Empty the closed days before first_kept, in some transactions. Returns False if partitions
    stayed locked; the next prune empties them."""
    for end in _ends_of_steps(first_kept):
        if not retry_locked(partial(_empty, end, report)):
            report.partitions_left = names_before(first_kept)
            logger.warning(
                "Partitions of the days to drop stayed locked; the next prune drops them."
            )
            return False
    done(Step.PRUNE_COMMITTED)
    return True


def drop_closed_partitions(report: PruneReport) -> None:
    """Drop the empty partitions; leave one that stays locked to the next prune."""
    raw_kept_from = UsageState.objects.values_list("raw_kept_from", flat=True).get()
    for leaf in _partitions_before(raw_kept_from or date.min):
        if retry_locked(partial(_drop, leaf)):
            report.partitions_dropped.append(leaf.name)
        else:
            report.partitions_left.append(leaf.name)
            logger.warning(
                "The empty partition %s stayed locked; the next prune drops it.", leaf.name
            )


def _drop(leaf: Leaf) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP TABLE {}").format(leaf.identifier))
    done(Step.PRUNE_DROPPED)


def delete_strays(first_kept: date, report: PruneReport) -> None:
    """Delete records of closed days from the default partitions."""
    strays_deleted = 0
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            # A DELETE from the partition itself fires no trigger, so it is not a correction.
            cursor.execute(
                sql.SQL("DELETE FROM {} WHERE usage_day(usage_date) < %s").format(
                    default_partition(table).identifier
                ),
                [first_kept],
            )
            strays_deleted += cursor.rowcount
    report.strays_deleted += strays_deleted


def count_strays(first_kept: date) -> int:
    """Return how many records of days before first_kept lie in the default partitions."""
    count = 0
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            cursor.execute(
                sql.SQL("SELECT count(*) FROM {} WHERE usage_day(usage_date) < %s").format(
                    default_partition(table).identifier
                ),
                [first_kept],
            )
            count += cursor.fetchone()[0]
    return count


def names_before(day: date) -> list[str]:
    """Return the names of the partitions of days before this one."""
    return [leaf.name for leaf in _partitions_before(day)]


def refuse_without_triggers(faults: list[str]) -> None:
    """Raise CaptureOffError if a trigger has a fault."""
    if faults:
        raise CaptureOffError(f"Nothing is dropped, since {', '.join(faults)}: {triggers.ADVICE}")


def _ends_of_steps(first_kept: date) -> list[date]:
    """Return the day up to which each transaction empties partitions; the last is first_kept."""
    days = sorted(
        {day for table in RAW_TABLES for day in partition_days(table) if day < first_kept}
    )
    return [*days[DAYS_EMPTIED_AT_ONCE::DAYS_EMPTIED_AT_ONCE], first_kept]


def _empty(first_kept: date, report: PruneReport) -> None:
    """Empty the closed days before first_kept in one transaction.

    From its commit on, no repair, rebuild, audit or live view reads these days.
    """
    done(Step.PRUNE_BEGAN)
    state = UsageState.objects.get()
    if state.raw_fence is None or first_kept <= (state.raw_kept_from or date.min):
        return  # another prune has emptied them
    refuse_without_triggers(unaudited_days.look(state))
    if any(day < first_kept for day in state.unaudited):
        raise RefreshRunningError(
            f"Triggers on raw tables were off or changed, so days before {first_kept} must be "
            "audited before they are dropped. Each refresh audits one day: run prune_usage again. "
            "usage_status lists these days. The remark of a run names days without raw records."
        )
    if first_kept > (state.sealed_before or date.min):
        raise RefreshRunningError(
            f"Days before {first_kept} are closed, but only days before {state.sealed_before} are "
            "sealed. Raw records stay until their day is sealed: run refresh_usage, then "
            "prune_usage again."
        )
    # Waits for a TRUNCATE of a whole table, so that the keys it logs are seen below.
    lock_raw_tables("ACCESS SHARE")
    with connection.cursor() as cursor:
        for leaf in _partitions_before(first_kept):
            cursor.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(leaf.identifier)
            )
        if _late_keys_before(first_kept):
            # They were logged after the repair, so another refresh must repair them first.
            raise RefreshRunningError(
                "Raw records of the days to drop changed a moment ago. Run prune_usage again."
            )
        for leaf in _partitions_before(first_kept):
            cursor.execute(sql.SQL("TRUNCATE {}").format(leaf.identifier))
    delete_strays(first_kept, report)
    UsageState.objects.update(
        raw_kept_from=first_kept,
        raw_fence=None if first_kept >= closed_until() else state.raw_fence,
    )
    done(Step.PRUNE_EMPTIED)


def _late_keys_before(first_kept: date) -> bool:
    state = UsageState.objects.get()
    return LateKey.objects.filter(
        day__lt=first_kept, day__gte=state.raw_kept_from or date.min
    ).exists()


def _partitions_before(day: date) -> list[Leaf]:
    return [
        leaf
        for table in RAW_TABLES
        for leaf_day, leaf in day_partitions(table).items()
        if leaf_day < day
    ]
