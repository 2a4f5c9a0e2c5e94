"""The steps of a refresh and of a prune: observers are called at each, and their time is taken."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class Step(StrEnum):
    """A step that was just done, in order. docs/architecture.md describes the steps."""

    SEQUENCES_MOVED = "sequences moved forward to the state"
    DAY_CHOSEN = "day to announce chosen"
    MARK_MOVED = "mark moved for the triggers, not committed"
    DAY_ANNOUNCED = "day announced"
    FENCE_DRAWN = "fence drawn"
    DAYS_CLOSED = "days closed"  # in a window, in place of a fence
    TOTALS_LOCKED = "locks taken"
    STATE_READ = "state read"
    KEYS_REPAIRED = "late keys repaired"
    DAYS_SEALED = "days sealed"
    STATE_WRITTEN = "watermark and as_of written"
    VIEW_REFRESHED = "view refreshed"
    PERIODS_KEPT = "period totals kept"
    VIEW_REMEMBERED = "view remembered"
    RUN_WRITTEN = "run written"
    COMMITTED = "committed"
    # A prune closes days, waits for its fence, refreshes, and then empties and drops partitions.
    PRUNE_DAY_CHOSEN = "day to keep chosen"
    PRUNE_MARK_MOVED = "mark of the prune moved, not committed"
    PRUNE_CLOSED = "days to drop closed"
    PRUNE_FENCED = "fence of the prune drawn"
    PRUNE_WAITED = "fence of the prune passed"
    PRUNE_BEGAN = "emptying began"
    PRUNE_EMPTIED = "partitions emptied"
    PRUNE_COMMITTED = "emptied partitions committed"
    PRUNE_DROPPED = "partition dropped"


Observer = Callable[[Step], object]

_observers: list[Observer] = []


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Call the observer after each step of every refresh and prune of this process, in the thread
    and the transaction of the step.

    An error that it raises ends the refresh or the prune at that step.
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def done(step: Step) -> None:
    """Call the observers of a step that was just done."""
    for observer in [*_observers]:
        observer(step)


@contextmanager
def timed(phases: dict[str, float], phase: str) -> Iterator[None]:
    """Add the time of the block, in seconds, to the phase, also when the block raises."""
    began = time.monotonic()
    try:
        yield
    finally:
        add_time(phases, phase, began)


def add_time(phases: dict[str, float], phase: str, began: float) -> None:
    """Add the time since `began`, a reading of time.monotonic(), to the phase."""
    phases[phase] = round(phases.get(phase, 0) + time.monotonic() - began, 4)
