"""An hour of writers, readers and services: sizes level off, and nothing leaks."""

import json
import os
import random
import statistics
import time
from contextlib import closing
from datetime import date, timedelta
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from psycopg2 import errors

from bin import processes
from bin.broker import ADDRESS, free_port
from tests.connections import ask, run_sql, second_session, wait_until
from tests.exact import plain_totals, totals_of
from tests.factories import make_subscription, refresh_and_seal, refresh_totals
from tests.faults.trials import Trials
from tests.load import Load, from_day
from tests.processes import started
from usage.errors import IndexesHeldError
from usage.models import RefreshRun, Scope, UsageState
from usage.services.accounts.tokens import make_token
from usage.services.audit.verification import verify
from usage.services.raw import clock
from usage.services.raw.partitions import make_partitions
from usage.services.totals import retention
from usage.services.totals.indexes import rebuild_loose
from usage.services.totals.refresh import refresh_now
from usage.services.totals.retention import prune

SUBSCRIPTIONS = 2_000
WRITERS = 3
READERS = 3
# A year of totals, as in a deployment: only one of thirteen months changes.
HISTORY = """
    INSERT INTO usage_daily_sealed
    SELECT
        subscription, day, usage_type, round(7 * random()::numeric, 8), 700, 7, day + time '12:00'
    FROM
        generate_series(%(first)s::date, %(end)s::date - 1, interval '1 day') AS days (day),
        generate_series(1, %(subscriptions)s) AS subscriptions (subscription),
        unnest(ARRAY['data', 'voice']) AS types (usage_type)
    ORDER BY day, subscription, usage_type
"""
# Records of the day for any subscription, one in twenty up to three days late; then a correction.
WRITE = """
    INSERT INTO {table} (subscription_id, usage_date, price, {quantity})
    SELECT
        1 + floor(random() * %(subscriptions)s)::bigint,
        %(day)s::date + time '12:00' - CASE
            WHEN random() < 0.05 THEN floor(random() * 4) * interval '1 day'
            ELSE interval '0'
        END,
        round(random()::numeric, 8),
        100
    FROM generate_series(1, 40)
"""
CORRECT = """
    UPDATE {table} SET price = price + 0.01
    WHERE subscription_id = %(subscription)s AND usage_date >= %(day)s::date - 1
"""
TABLES = [
    ("usage_datausagerecord", "kilobytes_used"),
    ("usage_voiceusagerecord", "seconds_used"),
]
SIZES = """
    SELECT relname, pg_total_relation_size(pg_class.oid)
    FROM pg_class
    WHERE
        relnamespace = 'public'::regnamespace
        AND relkind IN ('r', 'm')
        AND relname LIKE 'usage\\_%'
        AND NOT relispartition
"""
# Runs are kept for ninety days.
GROWING = {"usage_refreshrun"}
# Below this size the first pages of a relation and its indexes are most of it.
SMALL_BYTES = 1_000_000
REQUESTS = [
    "/api/v1/usage/over-limit/?price_limit=1",
    "/api/v1/usage/totals/?subscription_id=7",
    "/api/v1/usage/totals/?subscription_id=8&live=true",
    "/api/v1/usage/daily/?page_size=50",
]


class Size(NamedTuple):
    """The size on disk and the number of rows of a relation."""

    bytes: int
    rows: int


class Soak(Load):
    """Writers at a steady pace, refreshes, seals and prunes of a fast clock, and HTTP readers."""

    def __init__(
        self, seconds: float, *, seconds_a_day: float, refresh_every: float, days_of_totals: int
    ) -> None:
        super().__init__(
            seconds, seconds_a_day=seconds_a_day, seconds_between_refreshes=refresh_every
        )
        self.days_of_totals = days_of_totals
        self.latencies: list[tuple[float, float]] = []
        self.sizes: list[dict[str, Size]] = []
        self.held: list[dict[str, int]] = []

    def first_day(self) -> date:
        """Return the first day whose totals are kept."""
        return self.today() - timedelta(self.days_of_totals - 1)

    def fill(self) -> None:
        """Fill the database like a deployment whose old raw records are dropped."""
        for number in range(1, SUBSCRIPTIONS + 1):
            make_subscription(id=number)
        make_partitions([self.today()])
        run_sql(
            HISTORY,
            {"first": self.first_day(), "end": self.today(), "subscriptions": SUBSCRIPTIONS},
        )
        UsageState.objects.update(
            sealed_before=self.today(), raw_kept_from=self.today(), open_digest=None
        )
        refresh_totals()

    def write_steadily(self, seed: int) -> None:
        chance = random.Random(seed)
        with second_session(autocommit=True) as session:
            while self.go_on():
                table, quantity = chance.choice(TABLES)
                values = {
                    "subscriptions": SUBSCRIPTIONS,
                    "subscription": chance.randint(1, SUBSCRIPTIONS),
                    "day": self.today(),
                }
                for statement in (WRITE, CORRECT):
                    try:
                        ask(session, statement.format(table=table, quantity=quantity), values)
                        self.count("writes")
                    except errors.CheckViolation:
                        self.count("writes refused: closed day")
                self.stop.wait(0.5)

    def compare(self, _state: UsageState, run: RefreshRun) -> None:
        """Assert that totals of kept days are exact at the snapshot of the refresh."""
        self.assert_exact()
        self.count("published totals compared")

    def assert_exact(self) -> None:
        since = self.kept_from()
        kept = f"(SELECT * FROM usage_daily WHERE day >= '{since}') AS kept"
        assert totals_of(kept) == from_day(plain_totals(), since)

    def rebuild_indexes(self) -> None:
        """Rebuild indexes once a day, as beat does."""
        while self.go_on():
            self.stop.wait(self.seconds_a_day)
            try:
                self.count("indexes built anew", len(rebuild_loose()))
            except IndexesHeldError:
                self.count("builds of indexes held up")

    def read_over_http(self, port: int, key: str, seed: int) -> None:
        chance = random.Random(seed)
        with closing(HTTPConnection(ADDRESS, port, timeout=30)) as client:
            while self.go_on():
                began = time.monotonic()
                client.request(
                    "GET", chance.choice(REQUESTS), headers={"Authorization": f"Token {key}"}
                )
                response = client.getresponse()
                body = response.read()
                assert response.status == 200, body
                json.loads(body)
                self.latencies.append((began - self.began, time.monotonic() - began))
                self.count("reads")
                self.stop.wait(0.1)

    def watch(self, web: int) -> None:
        """Sample each day: sizes of relations, open files of web and tests, database sessions."""
        while self.go_on():
            self.sizes.append(sizes())
            self.held.append(held(web))
            self.stop.wait(self.seconds_a_day)


@pytest.fixture
def soak(
    trials: Trials,
    monkeypatch: pytest.MonkeyPatch,
    settings: LazySettings,
    only_default_partitions: None,
) -> Soak:
    """Return a load with a day a minute, raw records kept for five days, totals for a year."""
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 5
    settings.USAGE_TOTALS_RETENTION_DAYS = days = 365 if trials.full else 15
    load = Soak(
        trials.seconds(short=15, full=3600),
        seconds_a_day=trials.seconds(short=1, full=60),
        refresh_every=trials.seconds(short=0.5, full=5),
        days_of_totals=days,
    )
    monkeypatch.setattr(clock, "today", load.today)
    monkeypatch.setattr(
        retention, "refresh_now", lambda trigger: refresh_now(trigger, then=load.compare)
    )
    load.fill()
    return load


def test_sizes_level_off_and_nothing_leaks(
    trials: Trials, soak: Soak, broker: redis.Redis, tmp_path: Path
) -> None:
    """Fails when the refresh does not vacuum the open view, when old totals are never deleted, or
    when a thread of the web server keeps a connection for each request."""
    user = get_user_model().objects.create_user("reader")
    _, key = make_token(user=user, name="soak", scopes=[Scope.READ])
    port = free_port()
    with started(processes.web(f"{ADDRESS}:{port}"), broker, tmp_path / "web.log") as web:
        wait_until(lambda: responds(port), seconds=60, what="the web server to respond")
        soak.run(
            *(partial(soak.write_steadily, number) for number in range(WRITERS)),
            *(partial(soak.read_over_http, port, key, number) for number in range(READERS)),
            soak.refresh,
            soak.pass_days,
            soak.rebuild_indexes,
            partial(soak.watch, web.pid),
        )
    assert_nothing_leaks(soak.held)
    refresh_and_seal()
    soak.assert_exact()
    report = verify()
    assert report.differing == report.periods_differing == 0
    prune()
    ((oldest,),) = run_sql("SELECT min(day) FROM usage_daily_sealed")
    assert oldest >= soak.first_day()
    assert run_sql("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]
    wait_until(lambda: locks_of_others() == 0, what="every lock to be released")
    for what, number in soak.counts.items():
        trials.count(what, number)
    assert soak.counts["days sealed"] > 0
    assert soak.counts["prunes"] > 0
    note_drift(trials, soak.latencies)
    if trials.full:
        assert_sizes_level_off(trials, soak.sizes)


def assert_sizes_level_off(trials: Trials, over_time: list[dict[str, Size]]) -> None:
    """Assert that no relation is larger than 1.5 times a fresh build of its recent maximum of rows,
    and that none grows in the second half.

    Seals and deletions alternate, so rows come and go, and later rows reuse their pages.
    """
    half = len(over_time) // 2
    end = sizes()
    for name in end:
        with second_session(autocommit=True) as session:
            ask(session, f"VACUUM FULL {name}")
    large: list[tuple[str, Size, str]] = []
    for name, fresh in sizes().items():
        most_rows = max(each[name].rows for each in [*over_time[half:], end])
        expected = fresh.bytes * max(most_rows / max(fresh.rows, 1), 1)
        before = max(each[name].bytes for each in over_time[half // 2 : half])
        if end[name].bytes > SMALL_BYTES:
            trials.note(f"{name} {end[name].bytes / expected:.2f} times a fresh build")
            if end[name].bytes > 1.5 * expected:
                large.append((name, end[name], f"{fresh} fresh, {most_rows} rows at most"))
            if name not in GROWING and end[name].bytes > 1.2 * before:
                large.append((name, end[name], f"{before} bytes before"))
    assert not large


def note_drift(trials: Trials, latencies: list[tuple[float, float]]) -> None:
    """Note p99 of the second and of the last sixth. It is no assertion: the machine is shared."""
    sixth = latencies[-1][0] / 6
    parts = [
        [took for began, took in latencies if first * sixth <= began < (first + 1) * sixth]
        for first in (1, 5)
    ]
    if min(map(len, parts)) < 2:
        return  # the short form, on a machine that was busy with other work
    early, late = (statistics.quantiles(part, n=100)[98] * 1000 for part in parts)
    trials.note(f"p99 {early:.0f} ms early and {late:.0f} ms late")


def assert_nothing_leaks(over_time: list[dict[str, int]]) -> None:
    """Assert that the last quarter holds at most two more than the second quarter."""
    quarter = len(over_time) // 4
    for what in over_time[0]:
        early = max(held[what] for held in over_time[quarter : 2 * quarter])
        late = min(held[what] for held in over_time[-quarter:])
        assert late <= early + 2, f"{what}: {early} early and {late} late"


def held(pid: int) -> dict[str, int]:
    """Return open files of a process and its children, of this process, and database sessions."""
    everyone = [pid, *children(pid)]
    ((sessions,),) = run_sql(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name <> 'psql'"
    )
    return {
        "files of the web": sum(open_files(each) for each in everyone),
        "files of ours": open_files(os.getpid()),
        "sessions": int(sessions),
    }


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def sizes() -> dict[str, Size]:
    found = {}
    for name, size in run_sql(SIZES):
        ((rows,),) = run_sql(f"SELECT count(*) FROM {name}")
        found[name] = Size(int(size), int(rows))
    return found


def locks_of_others() -> int:
    ((locks,),) = run_sql(
        "SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return int(locks)


def responds(port: int) -> bool:
    try:
        with closing(HTTPConnection(ADDRESS, port, timeout=5)) as client:
            client.request("GET", "/health/live")
            return client.getresponse().status == 200
    except OSError:
        return False
