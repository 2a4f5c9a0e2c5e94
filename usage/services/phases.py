"""The time that each phase of a job takes, in seconds, summed over its transactions."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(phases: dict[str, float], phase: str) -> Iterator[None]:
    """Add the time of the block to the phase, also when the block raises."""
    began = time.monotonic()
    try:
        yield
    finally:
        add_time(phases, phase, began)


def add_time(phases: dict[str, float], phase: str, began: float) -> None:
    """Add the time since `began`, a reading of time.monotonic(), to the phase."""
    phases[phase] = round(phases.get(phase, 0) + time.monotonic() - began, 4)
