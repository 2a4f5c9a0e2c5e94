"""Helpers for the services of a random history: a calendar, short timeouts, interruptions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from unittest import mock

from tests.connections import run_sql
from usage.models import RAW_TABLES, LateKeysMode, UsageState
from usage.services import locks, partitions, periods, repair, retention, sealing
from usage.services import refresh as refreshing
from usage.services.partitions import partition_days

DAYS = 12
CUTS = [
    (sealing, "draw_fence"),
    (sealing, "_close_days"),
    (repair, "repair_late_keys"),
    (sealing, "seal"),
    (refreshing, "_refresh_open_view"),
    (periods, "apply_changes"),
    (retention, "draw_fence"),
    (retention, "_empty"),
    (retention, "_drop"),
]


class CutOffError(Exception):
    """An interruption, as if the process ended in the middle of its work."""


@dataclass(frozen=True)
class Calendar:
    zone: str
    first_day: date
    moments: list[str]

    @property
    def days(self) -> list[date]:
        return [self.first_day + timedelta(number) for number in range(DAYS)]


@contextmanager
def single_handed() -> Iterator[None]:
    """Make all waits short: one thread has all sessions, so no lock is freed during a wait."""
    with (
        mock.patch.multiple(retention, FENCE_SECONDS=0, TRIES=1, LOCK_MILLISECONDS=5),
        mock.patch.multiple(partitions, TRIES=1, LOCK_MILLISECONDS=5),
        mock.patch.multiple(sealing, TRIES=1, LOCK_MILLISECONDS=5),
        mock.patch.multiple(locks, RAW_LOCK_SECONDS=0.02, TRY_SECONDS=0.005),
        mock.patch.object(repair, "WHOLE_DAY_KEYS", 3),
    ):
        yield


@contextmanager
def cut_off(cut: tuple[object, str] | None) -> Iterator[None]:
    if cut is None:
        yield
        return
    original = getattr(*cut)

    def work_then_end(*arguments: Any) -> None:
        original(*arguments)
        raise CutOffError

    with mock.patch.object(*cut, work_then_end):
        yield


def start_over(zone: str, late_keys: str = LateKeysMode.TRIGGERS) -> None:
    """Start a new history: no partition, record or total, and no sealed or closed day."""
    for table in RAW_TABLES:
        for day in partition_days(table):
            run_sql(f"DROP TABLE {table}_p{day:%Y%m%d}")
    run_sql(
        "TRUNCATE usage_datausagerecord, usage_voiceusagerecord, usage_daily_sealed,"
        " usage_late_key, usage_period_total, usage_state, usage_refreshrun;"
        " ALTER SEQUENCE usage_logging_before RESTART;"
        " ALTER SEQUENCE usage_raw_kept_from RESTART"
    )
    run_sql("SELECT usage_close_days(NULL)")
    UsageState.objects.create(time_zone=zone, late_keys=late_keys)
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open")
