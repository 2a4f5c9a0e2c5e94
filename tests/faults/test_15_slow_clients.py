"""Slow and greedy clients: other clients are served, and memory stays bounded."""

import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bin.broker import ADDRESS
from tests.connections import wait_until
from tests.faults.crowd import Crowd
from tests.faults.installation import Installation
from tests.faults.trials import Trials
from tests.proxy import Proxy

PATHS = (
    "/health/live",
    "/api/v1/usage/over-limit/?price_limit=1",
    "/api/v1/usage/totals/?subscription_id=7",
    "/api/v1/usage/daily/?subscription_id=7&live=true",
)
# The limits in docker-compose.yml.
WEB_BYTES, PROXY_BYTES = 768 * 2**20, 256 * 2**20
GREEDY = {"csv": 12, "page": 12, "huge_page": 4, "upload": 2, "chunked": 2}
SLOW = {"silent": 200, "idle": 300, "slow_header": 40, "slow_body": 20}


class Polite:
    """Clients that send small requests, four a second, with a timeout of `patience` seconds."""

    def __init__(
        self, port: int, key: str, trust: ssl.SSLContext | None, patience: float = 30
    ) -> None:
        self.port, self.key, self.trust, self.patience = port, key, trust, patience
        self.seconds: list[float] = []
        self.failures: Counter[str] = Counter()

    def ask(self, path: str) -> None:
        began = time.monotonic()
        try:
            with self._connection() as connection:
                connection.request("GET", path, headers={"Authorization": f"Token {self.key}"})
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    self.failures[f"{path} {response.status}"] += 1
        except (OSError, http.client.HTTPException) as error:
            self.failures[f"{path} {type(error).__name__}"] += 1
        self.seconds.append(time.monotonic() - began)

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        if self.trust:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=self.patience, context=self.trust
            )
        else:
            connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=self.patience)
        try:
            yield connection
        finally:
            connection.close()

    def run(self, seconds: float) -> None:
        """Run two clients at a time for `seconds`."""
        deadline = time.monotonic() + seconds

        def one(first: int) -> None:
            number = first
            while time.monotonic() < deadline:
                self.ask(PATHS[number % len(PATHS)])
                number += 1
                time.sleep(0.25)

        threads = [threading.Thread(target=one, args=[number]) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def slowest(self, share: float) -> int:
        """Return the milliseconds within which this share of the responses came."""
        return round(1000 * sorted(self.seconds)[int(share * (len(self.seconds) - 1))])


class Memory:
    """The peak memory of a process and its children, sampled twice a second."""

    def __init__(self, process_id: int) -> None:
        self.most = 0
        self._process_id = process_id
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            self.most = max(self.most, sum(map(proportional_bytes, family(self._process_id))))


def family(process_id: int) -> list[int]:
    children = Path(f"/proc/{process_id}/task/{process_id}/children")
    return [process_id, *(int(child) for child in children.read_text().split())]


def proportional_bytes(process_id: int) -> int:
    """Return the proportional set size of a process."""
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


@pytest.fixture
def key(installation: Installation) -> str:
    """Return the key of a token that reads everything: ten days of 2,000 subscriptions."""
    installation.manage(
        *("generate_usage", "--subscriptions", "2000", "--days", "10", "--records", "60000")
    )
    installation.manage("refresh_usage")
    installation.manage(
        *("createsuperuser", "--noinput", "--username", "reader", "--email", "r@example.org"),
        DJANGO_SUPERUSER_PASSWORD="only-for-this-test",
    )
    output = installation.manage("make_token", "reader", "--name", "r", "--scope", "usage:read")
    return next(word for word in output.split() if word.startswith("usage_"))


def served(port: int, key: str, trust: ssl.SSLContext | None) -> bool:
    polite = Polite(port, key, trust, patience=5)
    polite.ask(PATHS[1])
    return not polite.failures


def test_others_are_served_behind_the_proxy_and_after_slow_ones_without_it(
    installation: Installation, key: str, trials: Trials
) -> None:
    """Behind the proxy every polite request succeeds in time. In gunicorn alone each slow client
    occupies a thread, so it must run behind a proxy.

    Fails when the proxy passes on an incomplete request, or waits forever; when a download or an
    upload occupies every thread of gunicorn or fills the memory; when the threads of slow clients
    stay occupied after these have left.
    """
    run_behind_the_proxy(installation, key, trials)
    run_without_a_proxy(installation, key, trials)


def run_behind_the_proxy(installation: Installation, key: str, trials: Trials) -> None:
    web, address = installation.start_web(DJANGO_PROXIES="1")
    proxy = Proxy(installation.place, address)
    installation.started.append(proxy.process)
    wait_until(lambda: served(proxy.port, key, proxy.trust), seconds=60, what="the web server")
    seconds = trials.seconds(short=8, full=600)
    polite = Polite(proxy.port, key, proxy.trust)
    with (
        Memory(web.pid) as of_web,
        Memory(proxy.process.pid) as of_proxy,
        Crowd(proxy.port, key, trust=proxy.trust, kinds={**SLOW, **GREEDY}) as crowd,
    ):
        polite.run(seconds)
    trials.count("seconds behind the proxy", round(seconds))
    trials.count("polite requests", len(polite.seconds))
    trials.count("ms p50", polite.slowest(0.5))
    trials.count("ms p99", polite.slowest(0.99))
    trials.count("MB of gunicorn at most", of_web.most >> 20)
    trials.count("MB of the proxy at most", of_proxy.most >> 20)
    for outcome, times in sorted(crowd.counts.items()):
        trials.count(f"times {outcome}", times)
    assert polite.failures == {}
    assert 0 < of_web.most < WEB_BYTES
    assert 0 < of_proxy.most < PROXY_BYTES
    assert crowd.counts["huge_page 400"]
    assert not {"page 400", "csv 400", "upload 200"} & crowd.counts.keys()
    if trials.full:
        # The proxy reads a whole body before it passes it on, so a slow body is not cut off.
        held = {"slow_body"}
        assert {f"{kind} cut off" for kind in SLOW.keys() - held} <= crowd.counts.keys()


def run_without_a_proxy(installation: Installation, key: str, trials: Trials) -> None:
    web, address = installation.start_web()
    port = int(address.rpartition(":")[2])
    wait_until(lambda: served(port, key, None), seconds=60, what="the web server")
    polite = Polite(port, key, None)
    with Memory(web.pid) as memory:
        with Crowd(port, key, trust=None, kinds={"csv": 12, "huge_page": 4, "upload": 2}):
            polite.run(trials.seconds(short=3, full=120))
        # Two processes with four threads each: eight slow clients occupy all threads.
        kept_out = Polite(port, key, None, patience=2)
        with Crowd(port, key, trust=None, kinds=SLOW):
            kept_out.run(trials.seconds(short=3, full=60))
        wait_until(lambda: served(port, key, None), seconds=120, what="threads to be free again")
    trials.count("polite requests to gunicorn alone beside greedy clients", len(polite.seconds))
    trials.count("ms p99 of them", polite.slowest(0.99))
    trials.count("requests of 2 s beside slow clients", len(kept_out.seconds))
    trials.count("of which not answered", kept_out.failures.total())
    trials.count("MB of gunicorn alone at most", memory.most >> 20)
    assert polite.failures == {}
    assert 0 < memory.most < WEB_BYTES
