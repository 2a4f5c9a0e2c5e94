"""Properties 1, 3, 6 and 7 over random histories of writers, refreshes, seals and prunes.

USAGE_HISTORIES=1000 runs that many histories of each kind instead of a few.
Each test fails when a statement trigger is off, when the live view counts a sealed total in
addition to its late key, when late keys are repaired in a separate transaction, and when a prune
drops raw records before it has repaired late keys. In a window each test fails when the CHECK on
closed days is missing, or when sealed days are not final.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.connections import ON_CITUS, ask, run_sql, second_session
from tests.factories import make_subscription
from tests.histories import SUBSCRIPTIONS
from tests.history_machine import OPEN_DAYS, RAW_RETENTION_DAYS, HistoryMachine
from tests.history_services import DAYS, Calendar, single_handed, start_over
from tests.history_writers import writes_at
from usage import sql
from usage.models import LateKeysMode

LATE = pytest.mark.one_server("no record comes late there")

UTC = Calendar(
    "UTC",
    date(2026, 10, 28),
    [
        f"{date(2026, 10, 28) + timedelta(number)}T{at}Z"
        for number in range(DAYS)
        for at in ("00:00:00", "12:30:00", "23:59:59.999999")
    ],
)
# Clocks went back at 00:01 on 7 November: its first minute was 02:30 UTC, the rest began at 03:30.
ST_JOHNS = Calendar(
    "America/St_Johns",
    date(2010, 11, 1),
    [
        *(f"2010-11-07T{at}Z" for at in ("02:30:59.999999", "02:31:00", "03:29:59.999999")),
        *(
            f"{date(2010, 11, 1) + timedelta(number)}T{at}Z"
            for number in range(DAYS)
            for at in ("02:29:59.999999", "02:30:00", "03:30:00")
        ),
    ],
)


def cut_days_in(zone: str) -> None:
    run_sql("SELECT set_config('usage.time_zone', %s, false)", [zone])
    for name in ["usage_day", "usage_day_start", "usage_day_end"]:
        run_sql(sql.read(name, 1))


@pytest.fixture
def zone_of_the_test(only_default_partitions: None) -> Iterator[None]:
    """Let the test set another zone; at the end drop its partitions and set UTC again.

    Partitions are found by the days of the zone, so they are dropped first.
    """
    yield
    start_over("UTC")
    cut_days_in("UTC")


@pytest.mark.usefixtures("zone_of_the_test")
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize(
    ("calendar", "open_days", "late_keys", "histories"),
    [
        pytest.param(UTC, OPEN_DAYS, LateKeysMode.TRIGGERS, 24, marks=LATE),
        pytest.param(UTC, None, LateKeysMode.TRIGGERS, 12, marks=LATE),
        pytest.param(ST_JOHNS, OPEN_DAYS, LateKeysMode.TRIGGERS, 14, marks=LATE),
        (UTC, RAW_RETENTION_DAYS, LateKeysMode.WINDOW, 14),
        (ST_JOHNS, RAW_RETENTION_DAYS, LateKeysMode.WINDOW, 10),
    ],
    ids=[
        "sealing",
        "never sealing",
        "sealing where a midnight comes twice",
        "in a window",
        "in a window where a midnight comes twice",
    ],
)
def test_totals_are_exact_in_any_history(
    calendar: Calendar,
    open_days: int | None,
    late_keys: LateKeysMode,
    histories: int,
    switch_to: Callable[[LateKeysMode], None],
) -> None:
    switch_to(late_keys)
    cut_days_in(calendar.zone)
    for number in SUBSCRIPTIONS:
        make_subscription(id=number)
    with ExitStack() as stack:
        sessions = [stack.enter_context(second_session(autocommit=True)) for _ in range(3)]
        stack.callback(run_sql, "RESET lock_timeout")
        for session in sessions:
            ask(session, "SET lock_timeout = '10ms'")
            if ON_CITUS:
                # The workers of the cluster do not apply lock_timeout.
                ask(session, "SET statement_timeout = '1s'")
        stack.enter_context(single_handed())
        counts: Counter[str] = Counter()
        machine = type(
            "Machine",
            (HistoryMachine,),
            {
                "calendar": calendar,
                "open_days": open_days,
                "late_keys": late_keys,
                "sessions": sessions,
                "writes": writes_at(calendar.moments),
                "counts": counts,
            },
        )
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=int(
                        os.environ.get("USAGE_HISTORIES", 3 if ON_CITUS else histories)
                    ),
                    stateful_step_count=50,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            print(
                f"{calendar.zone}, open days {open_days}, {late_keys}:", dict(counts.most_common())
            )
