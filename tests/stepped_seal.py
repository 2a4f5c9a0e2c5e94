"""A seal that calls a function at every step, and writers that act between two steps.

0  before the seal            3  after the fence was drawn
1  just before setval         4  in the refresh, after its snapshot was taken
2  after setval, no fence     5  after the day was sealed
"""

from collections.abc import Callable
from datetime import date

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, run_sql
from tests.factories import data_record, make_subscription, refresh_totals
from usage.models import UsageState
from usage.services.steps import Step, observed
from usage.services.totals import sealing

READ_COMMITTED, REPEATABLE_READ = "READ COMMITTED", "REPEATABLE READ"
STEPS = 6
OBSERVED = {Step.DAY_CHOSEN: 1, Step.DAY_ANNOUNCED: 2, Step.STATE_READ: 4}
TODAY = "2026-11-04"
SEALED_BEFORE = date(2026, 11, 3)


def give_usage() -> None:
    """Store a record of 2026-11-01 for subscription 1 and one for 2."""
    for pk in (1, 2):
        data_record(make_subscription(id=pk), "2026-11-01T12:00:00Z", price="1.5", kilobytes=10)


class SteppedSeal:
    """A seal of a day that calls `act` at every step, with the number of the step."""

    def __init__(self) -> None:
        self.act: Callable[[int], object] = lambda _step: None
        self.passed: set[int] = set()

    def step(self, number: int) -> None:
        if number not in self.passed:
            self.passed.add(number)
            self.act(number)

    def run(self, act: Callable[[int], object]) -> None:
        """Run every step except the last: open transactions decide whether the day is sealed."""
        self.act = act
        self.step(0)
        with observed(self._observe):
            sealing.announce_days()
            self.step(3)
            refresh_totals()

    def _observe(self, step: Step) -> None:
        if step is Step.DAY_ANNOUNCED:
            assert run_sql("SELECT pg_current_xact_id_if_assigned()") == [(None,)]
        if step in OBSERVED:
            self.step(OBSERVED[step])


def begin(session: Connection, level: str) -> None:
    """Begin a transaction and read, which takes the snapshot in REPEATABLE READ."""
    ask(session, f"BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM usage_datausagerecord")


def write(session: Connection) -> None:
    """Insert, change, move and delete records, after a savepoint that is rolled back."""
    insert = "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
    ask(session, f"SAVEPOINT one; {insert} VALUES (3, '2026-11-02 12:00+00', 1)")
    ask(session, "ROLLBACK TO SAVEPOINT one")
    ask(session, f"SAVEPOINT two; {insert} VALUES (4, '2026-11-02 12:00+00', 2)")
    ask(
        session,
        f"{insert} VALUES (5, '2026-11-02 12:00+00', 4), (6, '2026-11-04 12:00+00', 8);"
        " UPDATE usage_datausagerecord SET subscription_id = 7 WHERE subscription_id = 1;"
        " DELETE FROM usage_datausagerecord WHERE subscription_id IN (2, 5)",
    )
    ask(session, "RELEASE SAVEPOINT two")


def is_sealed() -> bool:
    return UsageState.objects.get().sealed_before == SEALED_BEFORE
