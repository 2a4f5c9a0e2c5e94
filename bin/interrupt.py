"""Ctrl-C, a closed terminal and SIGTERM as one exception, raised once."""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal to stop arrived; like KeyboardInterrupt this is not an Exception."""


def raise_interrupted() -> None:
    """Raise Interrupted when one of these signals arrives, once."""

    def handle(number: int, _frame: FrameType | None) -> None:
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
