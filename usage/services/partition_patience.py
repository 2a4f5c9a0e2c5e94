"""Partitions for writers that would rather go on without than fail."""

import time
from collections.abc import Collection
from datetime import date

from usage.errors import RefreshRunningError
from usage.services.partitions import make_partitions


def try_to_make_partitions(days: Collection[date], *, seconds: float) -> bool:
    """Make the missing partitions of these days, trying so long while a refresh is on.

    False when it went on too long: the default partition takes the records of those days.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            make_partitions(days)
        except RefreshRunningError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            return True
