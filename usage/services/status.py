"""What an operator wants to know about the totals."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from usage.models import OpenDailyUsage, RefreshRun, UsageState
from usage.services.partitions import RAW_TABLES, partition_days


@dataclass(frozen=True)
class Status:
    """The state of the totals at one moment. Ages are in seconds, sizes in bytes."""

    populated: bool
    time_zone: str
    as_of: datetime | None
    age_seconds: float | None
    max_age_seconds: int
    paused_at: datetime | None
    last_run: dict[str, Any] | None
    last_success: dict[str, Any] | None
    last_failure: dict[str, Any] | None
    partitions: dict[str, dict[str, Any]]
    sizes: dict[str, int]

    @property
    def is_fresh(self) -> bool:
        """Whether the totals are filled and no older than USAGE_MAX_AGE_SECONDS."""
        return (
            self.populated
            and self.age_seconds is not None
            and self.age_seconds <= self.max_age_seconds
        )


def read_status() -> Status:
    """The state now, read in a few cheap queries."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relispopulated, clock_timestamp() FROM pg_class"
            " WHERE oid = 'usage_daily_open'::regclass"
        )
        populated, now = cursor.fetchone()
    state = UsageState.objects.get()
    age = max(now - state.as_of, timedelta(0)).total_seconds() if state.as_of else None
    return Status(
        populated=populated and state.as_of is not None,
        time_zone=state.time_zone,
        as_of=state.as_of,
        age_seconds=age,
        max_age_seconds=settings.USAGE_MAX_AGE_SECONDS,
        paused_at=state.paused_at,
        last_run=_newest_run(),
        last_success=_newest_run(status=RefreshRun.Status.SUCCESS),
        last_failure=_newest_run(status=RefreshRun.Status.FAILED),
        partitions={table: _partitions(table) for table in RAW_TABLES},
        sizes={table: _size(table) for table in [*RAW_TABLES, OpenDailyUsage._meta.db_table]},
    )


def _newest_run(**conditions: str) -> dict[str, Any] | None:
    columns = ["id", "trigger", "status", "started_at", "finished_at", "open_rows", "error"]
    run = RefreshRun.objects.filter(**conditions).order_by("-started_at").values(*columns).first()
    return dict(run) if run else None


def _partitions(table: str) -> dict[str, Any]:
    days = partition_days(table)
    return {
        "count": len(days),
        "first_day": days[0] if days else None,
        "last_day": days[-1] if days else None,
        "default_bytes": _size(f"{table}_default"),
    }


def _size(relation: str) -> int:
    """Bytes of a relation with its partitions and indexes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(pg_total_relation_size(tree.relid)), 0)::bigint"
            " FROM (SELECT relid FROM pg_partition_tree(%s::regclass)"
            " UNION SELECT %s::regclass) AS tree",
            [relation, relation],
        )
        (size,) = cursor.fetchone()
    return size
