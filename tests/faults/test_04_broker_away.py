"""Valkey stopped and started empty: reads go on, refreshes resume, and no messages pile up."""

import json
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import redis
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from bin import processes
from tests.connections import ask, wait_until
from tests.faults.installation import Installation
from tests.faults.trials import Trials

QUEUES = "usage-????????????????"
# How long Valkey is away, and the interval of refreshes.
FULL, SHORT = (20.0, 15), (5.0, 2)
# The time that the refresh itself may take on a busy machine, beyond its interval.
GRACE_SECONDS = 5
RUNS = "SELECT count(*) FROM usage_refreshrun WHERE started_at > %s"


class Reader:
    """A client that sends the same request again and again; each response must be 200."""

    def __init__(self, address: str, key: str, trials: Trials) -> None:
        self._request = urllib.request.Request(  # noqa: S310 - our own server
            f"{address}/api/v1/usage/totals/?subscription_id=1",
            headers={"Authorization": f"Token {key}"},
        )
        self._trials = trials
        self.slowest = 0.0

    def age(self) -> float:
        """Send the request and return the age of the totals in seconds, from as_of."""
        began = time.monotonic()
        with urllib.request.urlopen(self._request, timeout=20) as response:  # noqa: S310
            body = json.load(response)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self._trials.count("reads")
        assert body["results"]
        return (datetime.now(UTC) - datetime.fromisoformat(body["as_of"])).total_seconds()

    def read_until(self, condition: Callable[[], object], *, seconds: float, what: str) -> None:
        """Send requests until the condition holds; each must succeed."""

        def holds() -> object:
            self.age()
            return condition()

        wait_until(holds, seconds=seconds, what=what)

    def responds(self) -> bool:
        try:
            self.age()
        except OSError:
            return False
        return True


def messages(broker: redis.Redis) -> int:
    """Return the number of messages that wait for a worker or are not acknowledged yet."""
    queues: Any = broker.keys(QUEUES)
    counts: list[Any] = [*map(broker.llen, queues), broker.hlen("unacked")]
    return sum(counts)


def successes(session: Connection, since: datetime) -> int:
    ((count,),) = ask(session, f"{RUNS} AND status = 'success'", [since])
    return int(count)


def has_passed(moment: float) -> bool:
    return time.monotonic() > moment


def now(session: Connection) -> datetime:
    ((moment,),) = ask(session, "SELECT clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment


def test_reads_go_on_without_a_broker_and_refreshes_resume_when_it_is_back(
    installation: Installation, trials: Trials
) -> None:
    """Web, worker and beat run as in production. While Valkey is away, the age of the totals grows.
    Once it is back, a refresh runs within an interval, and missed refreshes don't run.

    Fails when a request fails without the broker, or when a worker gives up without it.
    """
    away_seconds, interval = FULL if trials.full else SHORT
    installation.environment["USAGE_REFRESH_SECONDS"] = str(interval)
    installation.manage(
        "generate_usage", "--subscriptions", "20", "--days", "2", "--records", "2000"
    )
    key = installation.manage(
        *("make_token", "reader", "--new-user", "--name", "reader", "--scope", "usage:read")
    )
    installation.manage("refresh_usage")
    _, address = installation.start_web()
    installation.start(processes.worker(), "celery.log")
    installation.start(processes.beat(str(installation.place / "beat")), "celery.log")
    reader = Reader(address, key.strip(), trials)
    wait_until(reader.responds, seconds=60, what="the web server")
    longest = 0.0
    with installation.session() as session, redis.Redis.from_url(installation.broker.url) as broker:
        began = now(session)
        wait_until(partial(successes, session, began), seconds=90, what="the first refresh")
        for _ in trials.of("outages", short=1, full=20):
            installation.broker.stop()
            away = time.monotonic()
            reader.read_until(
                partial(has_passed, away + away_seconds),
                seconds=away_seconds + 60,
                what="the end of the outage",
            )
            # A worker may have had a message already, and refreshed a moment after the stop.
            status = json.loads(installation.manage("usage_status", "--json"))
            assert min(reader.age(), status["age_seconds"]) > away_seconds / 2
            installation.broker.start()
            back, back_at = now(session), time.monotonic()
            reader.read_until(
                partial(successes, session, back),
                seconds=90,
                what="a refresh once the broker is back",
            )
            took = time.monotonic() - back_at
            longest = max(longest, took)
            if took > interval + GRACE_SECONDS:
                trials.count("resumed later than an interval")
            most = 0

            def next_refresh(since: datetime = back) -> bool:
                nonlocal most
                most = max(most, messages(broker))
                return successes(session, since) >= 2

            reader.read_until(next_refresh, seconds=interval + 90, what="the next refresh")
            ((runs,),) = ask(session, RUNS, [back])
            intervals = (now(session) - back).total_seconds() / interval
            assert runs <= intervals + 2, "missed refreshes ran later"
            assert most <= 3, "messages piled up"
        wait_until(lambda: messages(broker) == 0, seconds=60, what="an empty queue")
    trials.count("seconds until refreshes resumed at most", round(longest))
    trials.count("milliseconds the slowest read took", round(1000 * reader.slowest))
    if trials.full:
        assert not trials.counts["resumed later than an interval"]
