"""The state of the totals, for operators."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from usage.database import lock_room
from usage.models import (
    RAW_TABLES,
    LateKey,
    OpenDailyUsage,
    PeriodTotal,
    RefreshRun,
    SealedDailyUsage,
    UsageState,
)
from usage.services.capture import triggers
from usage.services.capture.strategies import capture_of
from usage.services.raw import reached_day
from usage.services.raw.partitions import days_ahead, default_partition, partition_days

RELATIONS = [
    *RAW_TABLES,
    OpenDailyUsage._meta.db_table,
    SealedDailyUsage._meta.db_table,
    PeriodTotal._meta.db_table,
    LateKey._meta.db_table,
]


@dataclass(frozen=True)
class Status:
    """The state of the totals at one moment. Ages are in seconds, sizes in bytes."""

    populated: bool
    time_zone: str
    as_of: datetime | None
    age_seconds: float | None
    max_age_seconds: int
    paused_at: datetime | None
    sealed_before: date | None
    raw_kept_from: date | None
    late_keys: int
    capture_faults: list[str]
    unaudited_days: list[date]
    periods_filled: bool
    days_to_seal: int
    fence_waits_for: list[str]
    oldest_transaction: str | None
    last_audit: dict[str, Any] | None
    last_run: dict[str, Any] | None
    last_success: dict[str, Any] | None
    last_failure: dict[str, Any] | None
    clock_is_ahead: str
    days_not_reached: int
    partitions: dict[str, dict[str, Any]]
    refresh_locks: int
    lock_room: int
    open_view_bloat: float | None
    sizes: dict[str, int]

    @property
    def is_fresh(self) -> bool:
        """Return whether the totals are filled and no older than USAGE_MAX_AGE_SECONDS."""
        return (
            self.populated
            and self.age_seconds is not None
            and self.age_seconds <= self.max_age_seconds
        )


def read_status() -> Status:
    """Return the current state, read by a few cheap queries."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relispopulated, clock_timestamp() FROM pg_class"
            " WHERE oid = 'usage_daily_open'::regclass"
        )
        populated, now = cursor.fetchone()
    state = UsageState.objects.get()
    capture = capture_of(state)
    room = lock_room.read()
    age = max(now - state.as_of, timedelta(0)).total_seconds() if state.as_of else None
    return Status(
        populated=populated and state.as_of is not None,
        time_zone=state.time_zone,
        as_of=state.as_of,
        age_seconds=age,
        max_age_seconds=settings.USAGE_MAX_AGE_SECONDS,
        paused_at=state.paused_at,
        sealed_before=state.sealed_before,
        raw_kept_from=state.raw_kept_from,
        late_keys=LateKey.objects.count(),
        capture_faults=triggers.faults(),
        unaudited_days=state.unaudited,
        periods_filled=state.open_digest is not None,
        days_to_seal=capture.days_to_seal(),
        fence_waits_for=[str(blocker) for blocker in capture.waits_for()],
        oldest_transaction=_oldest_transaction(),
        last_audit=_newest_run(trigger=RefreshRun.Trigger.AUDIT, status=RefreshRun.Status.SUCCESS),
        last_run=_newest_run(),
        last_success=_newest_run(status=RefreshRun.Status.SUCCESS),
        last_failure=_newest_run(status=RefreshRun.Status.FAILED),
        clock_is_ahead=str(reached_day.behind(state) or ""),
        days_not_reached=reached_day.look(state).days_left,
        partitions={table: _partitions(table) for table in RAW_TABLES},
        refresh_locks=room.needed,
        lock_room=room.room,
        open_view_bloat=_open_view_bloat(),
        sizes={table: _size(table) for table in RELATIONS},
    )


def _newest_run(**conditions: str) -> dict[str, Any] | None:
    columns = [field.name for field in RefreshRun._meta.concrete_fields]
    run = RefreshRun.objects.filter(**conditions).order_by("-started_at").values(*columns).first()
    return dict(run) if run else None


def _oldest_transaction() -> str | None:
    """Return the session with the oldest transaction on this database: it holds VACUUM back."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('process %s of %s, %s since %s', pid, usename, state, xact_start)"
            " FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1"
        )
        row = cursor.fetchone()
    return row[0] if row else None


def _open_view_bloat() -> float | None:
    """Return the number of dead rows of the open view per live row, by the server's statistics."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT n_dead_tup::float / nullif(n_live_tup, 0) FROM pg_stat_all_tables"
            " WHERE relid = 'usage_daily_open'::regclass"
        )
        (ratio,) = cursor.fetchone()
    return None if ratio is None else round(ratio, 2)


def _partitions(table: str) -> dict[str, Any]:
    days = partition_days(table)
    return {
        "count": len(days),
        "first_day": days[0] if days else None,
        "last_day": days[-1] if days else None,
        "missing_days": [day for day in days_ahead() if day not in days],
        "default_bytes": _size(default_partition(table).qualified),
    }


def _size(relation: str) -> int:
    """Return the size in bytes of a relation with its partitions and indexes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(pg_total_relation_size(tree.relid)), 0)::bigint"
            " FROM (SELECT relid FROM pg_partition_tree(%s::regclass)"
            " UNION SELECT %s::regclass) AS tree",
            [relation, relation],
        )
        (size,) = cursor.fetchone()
    return size
