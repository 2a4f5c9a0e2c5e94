"""Helpers for the services of a random history: a calendar, short timeouts, interruptions."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, timedelta
from unittest import mock

from tests.connections import run_sql
from tests.refresh_steps import after
from usage.models import RAW_TABLES, LateKeysMode, UsageState
from usage.services.raw import locks
from usage.services.raw.partitions import partition_days
from usage.services.steps import Step
from usage.services.totals import closing, repair

DAYS = 12
CUTS = [
    Step.MARK_MOVED,
    Step.FENCE_DRAWN,
    Step.DAYS_CLOSED,
    Step.TOTALS_LOCKED,
    Step.KEYS_REPAIRED,
    Step.DAYS_SEALED,
    Step.VIEW_REFRESHED,
    Step.PERIODS_KEPT,
    Step.PRUNE_FENCED,
    Step.PRUNE_EMPTIED,
    Step.PRUNE_DROPPED,
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
        mock.patch.object(closing, "FENCE_SECONDS", 0),
        mock.patch.multiple(locks, TRIES=1, LOCK_MILLISECONDS=5),
        mock.patch.multiple(locks, RAW_LOCK_SECONDS=0.02, TRY_SECONDS=0.005),
        mock.patch.object(repair, "WHOLE_DAY_KEYS", 3),
    ):
        yield


@contextmanager
def cut_off(cut: Step | None) -> Iterator[None]:
    """Raise CutOffError after this step."""

    def end() -> None:
        raise CutOffError

    with after(cut, end, may_miss=True) if cut else nullcontext():
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
