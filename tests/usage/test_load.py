"""Everything at once for ten seconds, or as many as USAGE_LOAD_SECONDS says.

Six writers in both isolation levels with savepoints, moves of keys and deletes; four readers; a
refresher every 100 ms; a day that passes each second, with seals, new partitions and prunes.
"""

import os
from collections.abc import Callable
from functools import partial

import pytest

from tests.connections import run_sql
from tests.exact import plain_totals, totals_of
from tests.factories import make_subscription, refresh_and_seal, refresh_totals
from tests.load import SUBSCRIPTIONS, Load, until_day
from usage.models import RefreshRun
from usage.services import clock, retention
from usage.services.partitions import make_partitions
from usage.services.refresh import refresh_now

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
    monkeypatch.setattr(clock, "today", load.today)
    monkeypatch.setattr(retention, "FENCE_SECONDS", 2.0)
    monkeypatch.setattr(
        retention, "refresh_now", lambda trigger: refresh_now(trigger, then=load.compare)
    )
    for number in range(1, SUBSCRIPTIONS + 1):
        make_subscription(id=number)
    make_partitions([load.today()])
    refresh_totals()
    load.run(
        *(partial(load.write, LEVELS[number % 2], number) for number in range(6)),
        *(partial(load.read, LEVELS[number % 2], number) for number in range(4)),
        load.refresh,
        load.pass_days,
    )
    refresh_and_seal()
    refresh_now(RefreshRun.Trigger.COMMAND, then=load.compare)
    print("\n".join(f"{what}: {number}" for what, number in sorted(load.counts.items())))
    since = load.kept_from()
    assert totals_of("usage_daily") == sorted(
        until_day(load.closed, since) + [row for row in plain_totals() if row[1] >= since],
        key=lambda row: row[:3],
    )
    assert run_sql("SELECT count(*) FROM usage_late_key") == [(0,)]
    for what in ("days sealed", "keys repaired", "live totals compared", "prunes"):
        assert load.counts[what] > 0
