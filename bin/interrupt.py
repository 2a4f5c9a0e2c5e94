"""Ctrl-C, a closed terminal and SIGTERM as one exception, raised once."""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked us to stop; like KeyboardInterrupt it is no Exception."""


def raise_interrupted() -> None:
    """From now on these signals raise Interrupted."""

    def handle(number: int, _frame: FrameType | None) -> None:
        ignore_interrupts()
        raise Interrupted(signal.Signals(number).name)

    for number in SIGNALS:
        signal.signal(number, handle)


def ignore_interrupts() -> None:
    """From now on they change nothing: stopping is not to be cut short."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        return

    for number in SIGNALS:
        signal.signal(number, handle)
