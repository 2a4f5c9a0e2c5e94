"""The day reached: the day that retention takes for today. A wrong clock moves it by little.

Dropped days never come back, so retention does not trust a single reading of the clock. It accepts
the day of the clock only if that is at most three days after the day reached before.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from usage.models import UsageState
from usage.services.raw import clock
from usage.services.raw.locks import take_refresh_lock

MOST_DAYS = 3


@dataclass(frozen=True)
class ReachedDay:
    """The day that retention has reached, and the day of the clock."""

    day: date
    today: date

    @property
    def days_left(self) -> int:
        """Return by how many days the clock is ahead of the day reached, or 0."""
        return max((self.today - self.day).days, 0)

    @property
    def is_held(self) -> bool:
        """Return whether the next step ends before the day of the clock."""
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
    """Return the day reached, or the day of the clock if none is stored yet."""
    today = clock.today()
    return ReachedDay(state.reached_day or today, today)


def next_step(state: UsageState, *, days_passed: bool = False) -> ReachedDay:
    """Return the day that the next step reaches: that of the clock, but at most three days on."""
    reached = look(state)
    furthest = reached.today if days_passed else reached.day + timedelta(MOST_DAYS)
    return ReachedDay(max(reached.day, min(reached.today, furthest)), reached.today)


def store(reached: ReachedDay) -> None:
    """Store the day reached. A prune calls it at its end, so that a failed prune repeats the same
    step instead of going further.

    Raises RefreshRunningError while a refresh runs.
    """
    with transaction.atomic(durable=True):
        take_refresh_lock()
        UsageState.objects.filter(Q(reached_day=None) | Q(reached_day__lt=reached.day)).update(
            reached_day=reached.day
        )


def behind(state: UsageState) -> ReachedDay | None:
    """Return the day reached if the clock is too far ahead of it; None otherwise, or without
    retention.

    Retention then waits for an operator or for the next prunes.
    """
    if settings.USAGE_RAW_RETENTION_DAYS is None and settings.USAGE_TOTALS_RETENTION_DAYS is None:
        return None
    reached = look(state)
    return reached if reached.is_held else None
