"""The day that retention takes for today: a clock that is ahead moves it by little.

Days that are dropped never come back, so retention does not trust one reading of a clock. What the
clock says counts in full only where it is at most three days after the day reached before.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from usage.models import UsageState
from usage.services import clock
from usage.services.locks import take_refresh_lock

MOST_DAYS = 3


@dataclass(frozen=True)
class ReachedDay:
    """The day retention has reached, and the day that the clock says."""

    day: date
    today: date

    @property
    def days_left(self) -> int:
        """By how many days the clock is ahead of the day reached; 0 where it is not."""
        return max((self.today - self.day).days, 0)

    @property
    def is_held(self) -> bool:
        """Whether the next step does not reach the day of the clock."""
        return self.days_left > MOST_DAYS

    def __str__(self) -> str:
        return (
            f"The clock of the database says {self.today}, {self.days_left} days after "
            f"{self.day}, the day that retention has reached. One prune goes at most {MOST_DAYS} "
            "days further. If these days have passed, wait for the next prunes or run: manage.py "
            "prune_usage --days-passed. If the clock is wrong, correct it, then run: manage.py "
            "reopen_days"
        )


def look(state: UsageState) -> ReachedDay:
    """The day reached; that of the clock where none is stored yet."""
    today = clock.today()
    return ReachedDay(state.reached_day or today, today)


def next_step(state: UsageState, *, days_passed: bool = False) -> ReachedDay:
    """The day that the next step reaches: that of the clock, but at most three days further."""
    reached = look(state)
    furthest = reached.today if days_passed else reached.day + timedelta(MOST_DAYS)
    return ReachedDay(max(reached.day, min(reached.today, furthest)), reached.today)


def store(reached: ReachedDay) -> None:
    """Store that retention has reached this day: at the end of a prune, so that one that is refused
    and tried again goes the same step, not another one.

    Raises RefreshRunningError while a refresh is on.
    """
    with transaction.atomic(durable=True):
        take_refresh_lock()
        UsageState.objects.filter(Q(reached_day=None) | Q(reached_day__lt=reached.day)).update(
            reached_day=reached.day
        )


def behind(state: UsageState) -> ReachedDay | None:
    """The day reached where the clock is too far ahead of it and retention waits for an operator or
    the next prunes; None where all is well or no retention is set."""
    if settings.USAGE_RAW_RETENTION_DAYS is None and settings.USAGE_TOTALS_RETENTION_DAYS is None:
        return None
    reached = look(state)
    return reached if reached.is_held else None
