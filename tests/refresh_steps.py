"""The steps of a refresh, in order, and a hook that runs after one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from usage.services.steps import Step, observed

BEFORE_COMMIT = [
    Step.MARK_MOVED,
    Step.DAY_ANNOUNCED,
    Step.FENCE_DRAWN,
    Step.TOTALS_LOCKED,
    Step.STATE_READ,
    Step.KEYS_REPAIRED,
    Step.DAYS_SEALED,
    Step.STATE_WRITTEN,
    Step.VIEW_REFRESHED,
    Step.PERIODS_KEPT,
    Step.VIEW_REMEMBERED,
    Step.RUN_WRITTEN,
]
STEPS = [*BEFORE_COMMIT, Step.COMMITTED]


@contextmanager
def after(
    step: Step, act: Callable[[], object], *, once: bool = False, may_miss: bool = False
) -> Iterator[None]:
    """Call `act` each time, or only the first time, that the step was done.

    Fails if it was never done, unless it may miss.
    """
    times = 0

    def observe(done: Step) -> None:
        nonlocal times
        if done is step:
            times += 1
            if times == 1 or not once:
                act()

    with observed(observe):
        yield
    assert times or may_miss, f"not done: {step}"
