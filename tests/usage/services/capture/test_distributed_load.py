"""Concurrent writers on every server of a cluster, while days pass and are closed."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from psycopg2 import errors

from tests.connections import ask, run_sql, second_session
from tests.exact import plain_totals, totals_of
from tests.factories import make_subscription, refresh_totals
from usage.models import UsageState
from usage.services.raw import clock
from usage.services.raw.partitions import make_partitions

SECONDS = 12
SECONDS_A_DAY = 2
FIRST_DAY = date(2026, 11, 10)
SUBSCRIPTIONS = 40
WRITE = (
    "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
    " VALUES (%s, %s, 1)"
)


@pytest.mark.citus
@pytest.mark.usefixtures("only_default_partitions")
def test_no_record_is_lost_while_days_are_closed(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a day is sealed without a lock and a CHECK on every server."""
    settings.USAGE_OPEN_DAYS = settings.USAGE_RAW_RETENTION_DAYS = 2
    began = time.monotonic()

    def elapsed() -> float:
        return time.monotonic() - began

    def today() -> date:
        return FIRST_DAY + timedelta(int(elapsed() / SECONDS_A_DAY))

    monkeypatch.setattr(clock, "today", today)
    make_partitions([FIRST_DAY + timedelta(number) for number in range(-2, 4)])
    for number in range(1, SUBSCRIPTIONS + 1):
        make_subscription(id=number)
    workers = run_sql("SELECT nodename, nodeport FROM pg_dist_node WHERE shouldhaveshards")
    servers = [{}, *({"host": host, "port": port} for host, port in workers)]
    began = time.monotonic()

    def write(server: dict[str, Any]) -> tuple[int, int]:
        written = refused = 0
        chance = random.Random(repr(server))
        with second_session(autocommit=True, **server) as session:
            while elapsed() < SECONDS:
                day = today() - timedelta(chance.randrange(4))
                ask(session, "BEGIN")
                try:
                    for _ in range(3):
                        ask(session, WRITE, [chance.randint(1, SUBSCRIPTIONS), f"{day}T12:00Z"])
                        time.sleep(chance.random() / 10)
                    ask(session, "COMMIT")
                    written += 3
                except errors.CheckViolation:
                    ask(session, "ROLLBACK")
                    refused += 1
        return written, refused

    with ThreadPoolExecutor(len(servers)) as pool:
        writers = [pool.submit(write, server) for server in servers]
        while elapsed() < SECONDS:
            refresh_totals()
    counts = [writer.result() for writer in writers]
    last = today()
    monkeypatch.setattr(clock, "today", lambda: last)
    refresh_totals()
    assert UsageState.objects.get().sealed_before == last - timedelta(1)
    found = totals_of("usage_daily")
    assert found == plain_totals()
    assert sum(row[5] for row in found) == sum(written for written, _ in counts)
    assert all(written and refused for written, refused in counts)
