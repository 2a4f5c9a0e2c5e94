"""All work at the same time for ten seconds, or for USAGE_LOAD_SECONDS.

There are six writers in both isolation levels with savepoints, moves of keys and deletes; four
readers; a refresh every 100 ms; and each second a new day with seals, new partitions and prunes.
"""

import os
from collections.abc import Callable
from functools import partial

import pytest

from tests.load import Load

pytestmark = pytest.mark.one_server("no record comes late there")

SECONDS = float(os.environ.get("USAGE_LOAD_SECONDS", 10))
LEVELS = ["READ COMMITTED", "REPEATABLE READ"]


@pytest.mark.usefixtures("only_default_partitions")
@pytest.mark.timeout(SECONDS + 120)
def test_no_total_is_wrong_and_no_read_fails_under_load(
    set_today: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a trigger is off, when a seal does not wait for its fence, when late keys are
    consumed outside the refresh, and when a prune drops before it repairs or does not wait for its
    fence."""
    load = Load(SECONDS)
    set_today("2026-11-10")
    load.prepare(monkeypatch, fence_seconds=2.0)
    load.run(
        *(partial(load.write, LEVELS[number % 2], number) for number in range(6)),
        *(partial(load.read, LEVELS[number % 2], number) for number in range(4)),
        load.refresh,
        load.pass_days,
    )
    print("\n".join(f"{what}: {number}" for what, number in sorted(load.counts.items())))
    load.assert_exact_at_the_end()
    for what in ("days sealed", "keys repaired", "live totals compared", "prunes"):
        assert load.counts[what] > 0
