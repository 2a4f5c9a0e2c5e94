"""Ctrl-C, a closed terminal and SIGTERM as one exception, raised once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_is_held = False
_arrived: int | None = None


class Interrupted(BaseException):
    """A signal to stop arrived; like KeyboardInterrupt this is not an Exception."""


def raise_interrupted() -> None:
    """Raise Interrupted when one of these signals arrives, once; in a block of held() at its
    end."""

    def handle(number: int, _frame: FrameType | None) -> None:
        global _arrived
        _arrived = number
        if not _is_held:
            _raise_arrived()

    for number in SIGNALS:
        signal.signal(number, handle)


def ignore_interrupts() -> None:
    """Ignore these signals, so that nothing interrupts the shutdown."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        return

    for number in SIGNALS:
        signal.signal(number, handle)


@contextmanager
def held() -> Iterator[None]:
    """Hold back a signal that arrives in the block: raise Interrupted at its end."""
    global _is_held
    _is_held = True
    try:
        yield
    finally:
        _is_held = False
        if _arrived is not None:
            _raise_arrived()


def _raise_arrived() -> None:
    global _arrived
    assert _arrived is not None  # noqa: S101 - both callers have a signal
    number, _arrived = _arrived, None
    ignore_interrupts()
    raise Interrupted(signal.Signals(number).name)
