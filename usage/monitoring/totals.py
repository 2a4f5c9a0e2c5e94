"""Metrics of the totals. Each scrape reads them from the database, so all processes agree."""

import logging
from collections.abc import Iterable, Iterator

from django.db import DatabaseError, connection
from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from usage.models import RefreshRun
from usage.monitoring.bounded import NoAnswerError, ask_database
from usage.monitoring.replicas import Replica, look_at_replicas
from usage.services.totals import tallies
from usage.services.totals.status import Status, read_status

logger = logging.getLogger(__name__)


class TotalsCollector(Collector):
    """Metrics of the totals, runs and replicas. While the database is away, `usage_database_up`
    is 0 and those of totals and runs are missing."""

    def collect(self) -> Iterator[Metric]:
        try:
            # This query has a short deadline. Django's connection may wait longer than a scrape.
            ask_database("SELECT 1")
            _leave_ended_connection()
            found = [*_state(read_status()), *_runs(tallies.read()), _database_size()]
        except (NoAnswerError, DatabaseError) as error:
            logger.warning("The totals could not be measured: %s", error)
            found = []
        yield _gauge("usage_database_up", "Whether the database answers.", bool(found))
        yield from found
        yield from _replicas(look_at_replicas())


def _leave_ended_connection() -> None:
    """Close a persistent connection that the server has ended, so that the next query reconnects:
    the server itself may well be up."""
    is_kept = connection.connection is not None and not connection.in_atomic_block
    if is_kept and not connection.is_usable():
        connection.close()


def _replicas(found: list[Replica]) -> Iterator[Metric]:
    yield _gauge(
        "usage_replicas_away",
        "Replicas that do not respond; the other servers serve their requests.",
        sum(replica.fault is not None and not replica.is_foreign for replica in found),
    )
    yield _gauge(
        "usage_replicas_foreign",
        "Servers that are left out because they are no replicas of the primary.",
        sum(replica.is_foreign for replica in found),
    )
    yield _gauge(
        "usage_replicas_behind",
        "Replicas whose totals are older than USAGE_MAX_AGE_SECONDS, or that have none.",
        sum(replica.fault is None and not replica.is_fresh for replica in found),
    )
    yield _labelled(
        "usage_replica_totals_age_seconds",
        "Age of the totals on the replica.",
        "replica",
        ((each.name, each.age_seconds) for each in found if each.age_seconds is not None),
    )


def _state(status: Status) -> Iterator[Metric]:
    yield _gauge("usage_totals_populated", "Whether the totals were ever filled.", status.populated)
    if status.age_seconds is not None:
        yield _gauge(
            "usage_totals_age_seconds",
            "Age of the totals: records committed longer ago than this are in them.",
            status.age_seconds,
        )
    yield _gauge("usage_totals_max_age_seconds", "USAGE_MAX_AGE_SECONDS.", status.max_age_seconds)
    yield _gauge("usage_late_keys", "Keys that wait for the next refresh.", status.late_keys)
    yield _gauge(
        "usage_days_to_seal", "Days that are over and wait to be sealed.", status.days_to_seal
    )
    yield _gauge(
        "usage_seal_blockers",
        "Open transactions that a seal or a prune waits for, at most 20.",
        len(status.fence_waits_for),
    )
    yield _gauge(
        "usage_refreshes_paused", "Whether pause_refresh was run.", status.paused_at is not None
    )
    yield _gauge(
        "usage_capture_faults",
        "Triggers on raw tables that are off: changes of sealed days are not captured.",
        len(status.capture_faults),
    )
    yield _gauge(
        "usage_unaudited_days",
        "Sealed days that may miss changes because a trigger was off.",
        len(status.unaudited_days),
    )
    if (audit := status.last_audit) is not None:
        yield _gauge(
            "usage_audit_keys_differing",
            "Keys whose total differed from the raw records in the last audit.",
            audit["keys_differing"] or 0,
        )
    if (run := status.last_success) is not None:
        yield _gauge("usage_open_rows", "Rows of the materialized view.", run["open_rows"] or 0)
        yield _labelled(
            "usage_refresh_last_phase_seconds",
            "Seconds that each phase of the last successful refresh took.",
            "phase",
            run["phases"].items(),
        )
    yield _labelled(
        "usage_relation_bytes",
        "Size on disk with indexes and partitions.",
        "relation",
        status.sizes.items(),
    )
    yield _gauge(
        "usage_retention_days_held",
        "Days from the day reached to the clock, if that is too far for retention to follow at "
        "once; otherwise 0.",
        status.days_not_reached if status.clock_is_ahead else 0,
    )
    yield _gauge(
        "usage_refresh_locks",
        "Locks that a refresh takes on partitions and their indexes.",
        status.refresh_locks,
    )
    yield _gauge("usage_lock_room", "Locks that the server has room for.", status.lock_room)
    partitions = status.partitions.items()
    yield _labelled(
        "usage_partitions_missing",
        "Days from today to 14 days ahead that have no partition.",
        "relation",
        ((table, len(found["missing_days"])) for table, found in partitions),
    )
    yield _labelled(
        "usage_default_partition_bytes",
        "Size on disk of the default partition: records whose day has no partition.",
        "relation",
        ((table, found["default_bytes"]) for table, found in partitions),
    )


def _runs(sums: dict[str, dict[str, float]]) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "usage_refresh_runs", "Runs of the refresh that have ended.", labels=["status"]
    )
    for status in RefreshRun.Status:
        if status not in {RefreshRun.Status.QUEUED, RefreshRun.Status.RUNNING}:
            ended.add_metric([status.value], sums.get("runs", {}).get(status.value, 0))
    yield ended
    phases = CounterMetricFamily(
        "usage_refresh_phase_seconds",
        "Seconds that each phase took, over all runs.",
        labels=["phase"],
    )
    for phase, seconds in sorted(sums.get("phase_seconds", {}).items()):
        phases.add_metric([phase], seconds)
    yield phases
    for name, text in {
        "rows_changed": "Rows of the materialized view that runs wrote.",
        "keys_repaired": "Late keys computed again from the raw records.",
        "days_sealed": "Days sealed.",
    }.items():
        yield CounterMetricFamily(
            f"usage_refresh_{name}", text, value=sums.get(name, {}).get("", 0)
        )
    yield _delays(sums.get("delay_bucket", {}), sums.get("delay_seconds", {}).get("", 0))


def _delays(counts: dict[str, float], total: float) -> Metric:
    buckets, so_far = [], 0.0
    for bound in (*tallies.DELAY_BUCKETS, tallies.BEYOND):
        so_far += counts.get(bound, 0)
        buckets.append((bound, so_far))
    return HistogramMetricFamily(
        "usage_commit_to_visible_seconds",
        "The longest possible time from the commit of a record to its totals, observed once a "
        "successful refresh: from the as_of of the previous refresh to the end of this one.",
        buckets=buckets,
        sum_value=total,
    )


def _database_size() -> Metric:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        (size,) = cursor.fetchone()
    return _gauge("usage_database_bytes", "Size on disk of the whole database.", size)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values:
        metric.add_metric([key], value)
    return metric
