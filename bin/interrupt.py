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
    """Raise Interrupted when one of these signals arrives, once."""

    def handle(number: int, _frame: FrameType | None) -> None:
        global _arrived
        if _is_held:
            _arrived = number
            return
        ignore_interrupts()
        raise Interrupted(signal.Signals(number).name)

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
    """Keep a signal that arrives in the block for raise_held(), which must follow."""
    global _is_held
    _is_held = True
    try:
        yield
    finally:
        _is_held = False


def raise_held() -> None:
    """Raise Interrupted if a signal arrived while it was held."""
    global _arrived
    number, _arrived = _arrived, None
    if number is not None:
        ignore_interrupts()
        raise Interrupted(signal.Signals(number).name)
