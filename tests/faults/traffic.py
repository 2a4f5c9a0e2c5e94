"""Writers and readers of a ledger, each with its own session, while a test breaks something."""

import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask
from tests.faults.installation import Installation
from tests.faults.ledger import Ledger, Totals, periods_of
from tests.faults.trials import Trials

PUBLISHED = """
    SELECT 'day', as_of, day, usage_type, total_price, total_usage, record_count
    FROM usage_daily CROSS JOIN usage_freshness WHERE subscription_id = %(id)s
    UNION ALL
    SELECT 'period', as_of, period, usage_type, total_price, total_usage, record_count
    FROM usage_period_total CROSS JOIN usage_freshness WHERE subscription_id = %(id)s
"""
LIVE = """
    SELECT day, usage_type, total_price, total_usage, record_count
    FROM usage_daily_live WHERE subscription_id = %(id)s
"""
# Shorter than the interval of a refresh, and long enough to leave the machine time for the rest.
PAUSE_SECONDS = 0.02
WRITERS, READERS = 2, 6


class Traffic:
    """Writers and readers that run until the end of the block; check() raises the first failure.

    Published totals must be those of one state. That state has every transaction that was
    acknowledged by its as_of, and none that was not begun. A reader never sees an earlier state
    after a later one. Live totals have every transaction that was acknowledged before the query. A
    server that is away is a failure, except between goes_away() and is_back().
    """

    def __init__(self, installation: Installation, ledger: Ledger, trials: Trials) -> None:
        self._installation, self._ledger, self._trials = installation, ledger, trials
        self._failures: list[BaseException] = []
        self._stop = threading.Event()
        self._away = threading.Event()
        self._threads: list[threading.Thread] = []
        self._read_at: dict[str, float] = {}
        for number in range(WRITERS):
            self._add(f"writer {number}", partial(self._writing, ledger.ids[number::WRITERS]))
        for number in range(READERS):
            self._add(f"reader {number}", self._reading)

    def read_api(self, address: str, token: str) -> None:
        """Read over HTTP too; call it before the traffic begins."""
        self._add("client", partial(self._requesting, address, token))

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        self.check()
        assert not any(thread.is_alive() for thread in self._threads)

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failures:
            raise self._failures[0]

    def goes_away(self) -> None:
        """From now on tolerate that the server does not respond."""
        self._away.set()

    def is_back(self) -> dict[str, float]:
        """Wait up to a minute until each reader has read right totals; return the seconds by name.

        From then on a server that does not respond is a failure again.
        """
        began = time.monotonic()
        readers = [each.name for each in self._threads if not each.name.startswith("writer")]
        while any(self._read_at.get(name, 0) < began for name in readers):
            self.check()
            assert time.monotonic() < began + 60, f"a reader gets no totals: {self._read_at}"
            time.sleep(0.01)
        self._away.clear()
        return {name: self._read_at[name] - began for name in readers}

    def _add(self, name: str, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self._failures.append(error)
                self._stop.set()

        self._threads.append(threading.Thread(target=guarded, name=name))

    def _in_sessions(self, work: Callable[[Connection], None]) -> None:
        """Repeat the work in one session; open a new one after the server was away."""
        while not self._stop.is_set():
            # A thread may notice the lost session only after the server is back.
            tolerated = self._away.is_set()
            try:
                with self._installation.session() as session:
                    while not self._stop.wait(PAUSE_SECONDS):
                        tolerated = self._away.is_set()
                        work(session)
            except psycopg2.Error as error:
                if not (_is_lost(error) and (tolerated or self._away.is_set())):
                    raise
                time.sleep(0.05)

    # Writers

    def _writing(self, ids: list[int]) -> None:
        chance = random.Random(ids[0])
        unsettled: set[int] = set()

        def write(session: Connection) -> None:
            for id_ in sorted(unsettled):
                self._ledger.settle(session, id_)
                unsettled.remove(id_)
            id_ = chance.choice(ids)
            unsettled.add(id_)
            self._ledger.write(session, id_)
            unsettled.remove(id_)
            self._trials.count("transactions")

        self._in_sessions(write)

    # Readers

    def _reading(self) -> None:
        chance = random.Random()
        seen: dict[int, int] = defaultdict(int)

        def read(session: Connection) -> None:
            id_ = chance.choice(self._ledger.ids)
            if chance.random() < 0.1:
                least = self._ledger.acknowledged(id_)
                n = self._ledger.number(ask(session, LIVE, {"id": id_}))
                assert least <= n <= self._ledger.begun[id_], (least, n, self._ledger.begun[id_])
                self._trials.count("live reads")
            else:
                self._compare(id_, seen, ask(session, PUBLISHED, {"id": id_}))
                self._trials.count("reads")
            self._read_at[threading.current_thread().name] = time.monotonic()

        self._in_sessions(read)

    def _compare(self, id_: int, seen: dict[int, int], rows: list[tuple[Any, ...]]) -> None:
        n = self._ledger.number(row[2:] for row in rows if row[0] == "day")
        periods: Totals = {row[2:4]: (row[4], row[5], row[6]) for row in rows if row[0] == "period"}
        assert periods == periods_of(self._ledger.daily(n)), f"months of another state than {n}"
        self._compare_number(id_, seen, n, rows[0][1])

    def _compare_number(self, id_: int, seen: dict[int, int], n: int, as_of: datetime) -> None:
        least = max(self._ledger.acknowledged(id_, by=as_of), seen[id_])
        assert least <= n <= self._ledger.begun[id_], (
            f"{n} of {self._ledger.begun[id_]} transactions of {id_} as of {as_of}, not {least}"
        )
        seen[id_] = n

    # Clients of the API

    def _requesting(self, address: str, token: str) -> None:
        seen: dict[int, int] = defaultdict(int)
        chance = random.Random()
        while not self._stop.wait(10 * PAUSE_SECONDS):
            id_ = chance.choice(self._ledger.ids)
            tolerated = self._away.is_set()
            try:
                body = _get(
                    f"{address}/api/v1/usage/daily/?subscription_id={id_}&page_size=1000"
                    f"&from_date={self._ledger.days.all[0]}&to_date={self._ledger.days.today}",
                    token,
                )
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                is_fault = isinstance(error, urllib.error.HTTPError) and error.code != 503
                if is_fault or not (tolerated or self._away.is_set()):
                    raise
                time.sleep(0.05)
                continue
            rows = [
                (
                    date.fromisoformat(row["day"]),
                    row["usage_type"],
                    Decimal(row["total_price"]),
                    row["total_usage"],
                    row["record_count"],
                )
                for row in body["results"]
            ]
            as_of = datetime.fromisoformat(body["as_of"])
            self._compare_number(id_, seen, self._ledger.number(rows), as_of)
            self._read_at["client"] = time.monotonic()
            self._trials.count("requests")


def _is_lost(error: psycopg2.Error) -> bool:
    """Return whether the server was away, or went away during a query."""
    lost = (psycopg2.OperationalError, psycopg2.InterfaceError)
    return isinstance(error, lost) or type(error) is psycopg2.DatabaseError


def _get(url: str, token: str) -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Token {token}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        return json.load(response)
