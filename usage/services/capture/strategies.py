"""The two ways to keep the totals of sealed days right, one for each late keys mode.

ByTriggers: a record may come late for any day whose raw records are kept. Triggers log its key, and
the next refresh repairs it. Before a day is sealed, a fence waits for every writer whose triggers
did not see that the day was announced.

ByWindow: a day is closed to writers before it is sealed, so its totals are final, and nothing needs
triggers. The exclusive lock under which the day is closed is the fence: earlier writers have ended,
and later ones are refused.
"""

import logging
from abc import ABC, abstractmethod
from datetime import date
from functools import partial
from typing import ClassVar

from django.db import connection, transaction

from usage.database.blockers import Blocker, blockers, holders
from usage.models import RAW_TABLES, UsageState
from usage.services.capture import sequences
from usage.services.capture.sequences import DAY_ZERO, closed_until, day_of, move_forward
from usage.services.raw import clock, locks, reached_day
from usage.services.raw.fences import draw_fence, has_passed, is_from_another_server
from usage.services.raw.locks import retry_locked, take_refresh_lock
from usage.services.steps import Step, done

logger = logging.getLogger(__name__)


class Capture(ABC):
    """How the days of one state of the totals are announced before they are sealed."""

    sealed_days_are_final: ClassVar[bool]

    def __init__(self, state: UsageState) -> None:
        self.state = state

    @abstractmethod
    def today(self) -> date:
        """Return the current day, by which days leave the open days."""

    @abstractmethod
    def needs_new_fence(self) -> bool:
        """Return whether the days announced before can never be sealed without a new fence."""

    @abstractmethod
    def announce(self, day: date) -> None:
        """Let every statement that begins from now on know that days before `day` may be sealed.

        Runs under the refresh lock. draw_fence() follows in a transaction of its own.
        """

    @abstractmethod
    def draw_fence(self, day: date) -> None:
        """Make sure that the writers who do not know of the announcement can be waited for."""

    @abstractmethod
    def may_seal(self) -> bool:
        """Return whether no such writer is left, at the snapshot of this transaction."""

    @abstractmethod
    def announced_until(self) -> date:
        """Return the first day that is not announced."""

    @abstractmethod
    def waits_for(self) -> list[Blocker]:
        """Return the transactions that delay a seal, or the drop of closed days."""

    def days_to_seal(self) -> int:
        """Return how many days wait to be sealed; before the first seal they count as one."""
        end = self.announced_until()
        if self.state.sealed_before is None:
            return 1 if end > DAY_ZERO else 0
        return max((end - self.state.sealed_before).days, 0)


class ByTriggers(Capture):
    """Triggers log the keys of late records, and refreshes repair them."""

    sealed_days_are_final = False

    def today(self) -> date:
        return clock.today()

    def needs_new_fence(self) -> bool:
        return is_from_another_server(self.state.fence)

    def announce(self, day: date) -> None:
        # The sequence has no snapshot: every statement that begins from here on logs.
        move_forward("usage_logging_before", day)

    def draw_fence(self, day: date) -> None:
        with transaction.atomic(durable=True):
            take_refresh_lock()
            done(Step.DAY_ANNOUNCED)
            # An earlier day means that reopen_days moved the sequence back meanwhile.
            if day_of("usage_logging_before") >= day:
                UsageState.objects.update(fence=draw_fence(), fence_day=day)
                done(Step.FENCE_DRAWN)

    def may_seal(self) -> bool:
        return has_passed(self.state.fence)

    def announced_until(self) -> date:
        return self.state.fence_day or DAY_ZERO

    def waits_for(self) -> list[Blocker]:
        fences = [self.state.fence if self.days_to_seal() else None, self.state.raw_fence]
        return blockers(max((fence for fence in fences if fence), default=0))


class ByWindow(Capture):
    """Closed days refuse records, so that no record comes late."""

    sealed_days_are_final = True

    def today(self) -> date:
        """Return the day that the next step of retention reaches, and store it, so that a wrong
        clock closes only a few days at a time."""
        step = reached_day.next_step(self.state)
        if step.days_left:
            return reached_day.look(self.state).day
        if step.day != self.state.reached_day:
            UsageState.objects.update(reached_day=step.day)
        return step.day

    def needs_new_fence(self) -> bool:
        return False  # days that could not be closed count as not announced

    def announce(self, day: date) -> None:
        move_forward("usage_logging_before", day)
        move_forward("usage_raw_kept_from", day)

    def draw_fence(self, day: date) -> None:
        close_or_leave_open(day)

    def may_seal(self) -> bool:
        # The constraint that closes the days is the fence, so no day is sealed without it.
        return not sequences.behind()

    def announced_until(self) -> date:
        return closed_until()

    def waits_for(self) -> list[Blocker]:
        is_closed = closed_until() <= (self.state.fence_day or DAY_ZERO)
        return [] if is_closed else holders(RAW_TABLES)


def capture_of(state: UsageState) -> Capture:
    """Return the way of the late keys mode of this state."""
    return ByWindow(state) if state.is_window else ByTriggers(state)


def close_or_leave_open(day: date) -> None:
    """Close the days before `day` in a window. If a table stays locked, they stay open until the
    next refresh."""
    if not retry_locked(partial(_close, day)):
        logger.warning(
            "The days before %s are not sealed yet: a writer or reader of raw records held the "
            "lock of a table (manage.py usage_status names it). The next refresh tries again.",
            day,
        )


def _close(day: date) -> None:
    close_days(day, lock_milliseconds=locks.LOCK_MILLISECONDS)
    UsageState.objects.update(fence=None, fence_day=day)
    done(Step.DAYS_CLOSED)


def close_days(day: date | None, *, lock_milliseconds: int | None = None) -> None:
    """Refuse records of days before `day` from this transaction on, by a CHECK; None opens every
    day. `lock_milliseconds` limits the wait for a lock, on every server of a cluster."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL citus.propagate_set_commands = 'local'")
        if lock_milliseconds is not None:
            cursor.execute(f"SET LOCAL lock_timeout = '{lock_milliseconds}ms'")
        cursor.execute("SELECT usage_close_days(%s)", [day])
