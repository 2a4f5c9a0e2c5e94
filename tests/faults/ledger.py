"""A ledger of transactions: after n of them, each total of a subscription is known.

Each transaction changes sealed and open days, both types and their months, and adds, deletes and
moves records. So a reader that sees a mixture of two states finds totals that match no n.
"""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask

# (day, or month, or date.min for all days; usage type) -> price, usage, number of records
LedgerKey = tuple[date, str]
Totals = dict[LedgerKey, tuple[Decimal, int, int]]
ALL_DAYS = date(1, 1, 1)
FIRST_ID = 1_000_000

BASE = """
    INSERT INTO usage_subscription (id, external_id)
    SELECT %(first)s + number, format('ledger %%s', number)
    FROM generate_series(0, %(count)s - 1) AS numbers (number);

    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    SELECT %(first)s + number, day, 1, 1
    FROM
        generate_series(0, %(count)s - 1) AS numbers (number),
        unnest(%(days)s::timestamptz[]) AS days (day);

    INSERT INTO usage_voiceusagerecord (subscription_id, usage_date, price, seconds_used)
    SELECT %(first)s + number, %(even)s::timestamptz, 5, 7
    FROM generate_series(0, %(count)s - 1) AS numbers (number)
"""
TRANSACTION = [
    "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
    " VALUES (%(id)s, %(late)s::timestamptz + %(n)s * interval '1 ms', %(n)s * 0.01, %(n)s)",
    "UPDATE usage_voiceusagerecord SET usage_date = %(to)s::timestamptz"
    " WHERE subscription_id = %(id)s AND usage_date = %(from)s::timestamptz AND price = 5",
    "INSERT INTO usage_voiceusagerecord (subscription_id, usage_date, price, seconds_used)"
    " VALUES (%(id)s, %(today)s::timestamptz + %(n)s * interval '1 ms', %(n)s * 0.01, %(n)s)",
    "DELETE FROM usage_datausagerecord WHERE subscription_id = %(id)s"
    " AND usage_date = %(replaced)s::timestamptz + (%(n)s - 1) * interval '1 ms'"
    " AND usage_date > %(replaced)s::timestamptz",
    "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
    " VALUES (%(id)s, %(replaced)s::timestamptz + %(n)s * interval '1 ms', %(n)s, %(n)s)",
]


@dataclass(frozen=True)
class Days:
    """Numbers of days before today, by their fate; all days have records from the beginning."""

    today: date
    # A test may drop the raw records of these days.
    old: int = 0
    # A test may seal these days; the three days before them are sealed at the beginning.
    to_seal: int = 0

    @property
    def late(self) -> date:
        """Return the first of three consecutive days that are sealed at the beginning."""
        return self.today - timedelta(self.to_seal + 4)

    @property
    def all(self) -> list[date]:
        first = self.late - timedelta(self.old)
        return [first + timedelta(days) for days in range((self.today - first).days + 1)]


class Ledger:
    """Subscriptions with one writer each, whose transactions are numbered from 1."""

    def __init__(self, days: Days, subscriptions: int = 6) -> None:
        self.days = days
        self.ids = [FIRST_ID + number for number in range(subscriptions)]
        self.late, self.replaced = days.late, days.late + timedelta(1)
        # The days of the moving record after an even and an odd number of transactions.
        self.moves = (days.late + timedelta(2), days.today - timedelta(1))
        self.begun: Counter[int] = Counter()
        self._acknowledged: dict[int, list[float]] = {id_: [] for id_ in self.ids}

    def make(self, session: Connection) -> None:
        """Write the records that exist before the first transaction."""
        parameters = {"first": FIRST_ID, "count": len(self.ids), "days": self.days.all}
        ask(session, BASE, {**parameters, "even": self.moves[0]})

    def write(self, session: Connection, id_: int) -> None:
        """Run the next transaction. If the session is lost, call settle()."""
        n = len(self._acknowledged[id_]) + 1
        self.begun[id_] = n
        values = {
            "id": id_,
            "n": n,
            "late": self.late,
            "replaced": self.replaced,
            "today": self.days.today,
            "from": self.moves[(n - 1) % 2],
            "to": self.moves[n % 2],
        }
        ask(session, "BEGIN")
        for statement in TRANSACTION:
            ask(session, statement, values)
        ask(session, "COMMIT")
        self._acknowledged[id_].append(time.time())

    def settle(self, session: Connection, id_: int) -> None:
        """Find out, in a new session, whether the interrupted transaction was committed."""
        ((there,),) = ask(
            session,
            "SELECT count(*) - 1 FROM usage_datausagerecord WHERE subscription_id = %s"
            " AND usage_date >= %s::timestamptz AND usage_date < %s::timestamptz",
            [id_, self.late, self.replaced],
        )
        acknowledged = len(self._acknowledged[id_])
        assert acknowledged <= there <= self.begun[id_], (
            f"{acknowledged} transactions of {id_} were acknowledged, {there} are there"
        )
        if there > acknowledged:
            self._acknowledged[id_].append(time.time())

    def acknowledged(self, id_: int, by: datetime | None = None) -> int:
        """Return the number of acknowledged transactions, at a moment or now."""
        moments = self._acknowledged[id_]
        return len(moments) if by is None else bisect_right(moments, by.timestamp())

    def daily(self, n: int) -> Totals:
        """Return the totals of a subscription by day and type after n transactions."""
        totals: Totals = {(day, "data"): (Decimal(1), 1, 1) for day in self.days.all}
        whole = n * (n + 1) // 2
        totals[self.late, "data"] = (1 + Decimal(whole) / 100, 1 + whole, 1 + n)
        totals[self.moves[n % 2], "voice"] = (Decimal(5), 7, 1)
        if n:
            totals[self.replaced, "data"] = (Decimal(1 + n), 1 + n, 2)
            totals[self.days.today, "voice"] = (Decimal(whole) / 100, whole, n)
        return totals

    def number(self, rows: Iterable[tuple[Any, ...]]) -> int:
        """Return the n whose totals these daily totals of a subscription are; fail if none matches.

        A row is day, usage type, price, usage and number of records.
        """
        found: Totals = {}
        for day, usage_type, price, usage, records in rows:
            assert (day, usage_type) not in found, f"twice: {day} {usage_type}"
            found[day, usage_type] = (price, usage, records)
        assert (self.late, "data") in found, f"missing: {self.late} data"
        n = found[self.late, "data"][2] - 1
        assert found == (expected := self.daily(n)), (
            f"no state: {set(found.items()) ^ set(expected.items())} after {n} transactions"
        )
        return n


def periods_of(daily: Totals) -> Totals:
    """Return the sums of daily totals by month and over all days."""
    sums: Totals = {}
    for (day, usage_type), addends in daily.items():
        for period in (ALL_DAYS, day.replace(day=1)):
            known = sums.get((period, usage_type), (Decimal(0), 0, 0))
            sums[period, usage_type] = (
                known[0] + addends[0],
                known[1] + addends[1],
                known[2] + addends[2],
            )
    return sums
