"""Rate limits, counted in a real Valkey, and requests while it is unreachable."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.conf import LazySettings
from django.contrib.auth.models import User
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from tests.factories import client_of, make_key
from tests.usage.api.api_requests import fill_totals, get, only_error
from usage.api import throttles


@pytest.fixture
def counted(
    db: None, broker: redis.Redis, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> LazySettings:
    """Allow three requests of a token and five of an address, in a minute that never ends."""
    fill_totals()
    number = broker.get_connection_kwargs()["db"]
    settings.REDIS_URL = f"{settings.REDIS_URL.rpartition('/')[0]}/{number}"
    settings.USAGE_TOKEN_REQUESTS_PER_MINUTE = 3
    settings.USAGE_ADDRESS_REQUESTS_PER_MINUTE = 5
    monkeypatch.setattr(throttles, "_paused_until", 0.0)
    monkeypatch.setattr("usage.api.throttles.time", lambda: 1_800_000_045.5)
    return settings


@pytest.fixture
def client(counted: LazySettings) -> APIClient:
    return client_of(User.objects.create_user("client"))


def statuses(client: APIClient, times: int, **headers: str) -> list[int]:
    return [get(client, "subscriptions", **headers).status_code for _ in range(times)]


def test_a_token_beyond_its_limit_gets_429_with_retry_after(client: APIClient) -> None:
    assert statuses(client, 3) == [200, 200, 200]
    response = get(client, "subscriptions")
    assert response.status_code == 429
    assert response["Retry-After"] == "15"
    assert only_error(response, "client_error")["code"] == "throttled"


def test_the_next_minute_counts_anew(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(client, 4) == [200, 200, 200, 429]
    monkeypatch.setattr("usage.api.throttles.time", lambda: 1_800_000_060.0)
    assert statuses(client, 1) == [200]


def test_each_token_has_its_own_count(client: APIClient) -> None:
    assert statuses(client, 3) == [200, 200, 200]
    other = client_of(User.objects.get())
    assert statuses(other, 2) == [200, 200]


def test_all_spellings_of_a_token_share_one_count(counted: LazySettings) -> None:
    key = make_key(User.objects.create_user("client"))
    spellings = ["Token {}", "TOKEN {}", "Bearer  {}", "bearer\t{}"]
    clients = [APIClient(headers={"Authorization": said.format(key)}) for said in spellings]
    assert [statuses(client, 1) for client in clients] == [[200], [200], [200], [429]]


def test_an_address_that_guesses_keys_is_stopped(client: APIClient) -> None:
    """Fails when a request is counted only after the key was looked up."""
    guesses = [
        get(APIClient(), "subscriptions", authorization=f"Token {n}").status_code for n in range(7)
    ]
    assert guesses == [401, 401, 401, 401, 401, 429, 429]
    assert statuses(client, 1) == [429]


def test_each_address_behind_the_proxy_has_its_own_count(
    client: APIClient, counted: LazySettings
) -> None:
    """Our proxy adds the last address; a client can forge the ones before it."""
    counted.DJANGO_PROXIES = 1
    anybody = APIClient()
    for number in range(6):
        get(anybody, "subscriptions", x_forwarded_for=f"10.0.0.{number}, 192.0.2.1")
    refused = get(anybody, "subscriptions", x_forwarded_for="192.0.2.1")
    assert refused.status_code == 429
    assert get(anybody, "subscriptions", x_forwarded_for="192.0.2.2").status_code == 401


def test_all_ports_of_a_client_share_one_count(counted: LazySettings) -> None:
    counted.DJANGO_PROXIES = 1
    found = [
        get(APIClient(), "subscriptions", x_forwarded_for=f"192.0.2.1:{port}").status_code
        for port in range(5000, 5006)
    ]
    assert found == [401] * 5 + [429]


def test_the_addresses_of_an_ipv6_network_count_as_one(counted: LazySettings) -> None:
    counted.DJANGO_PROXIES = 1
    found = [
        get(APIClient(), "subscriptions", x_forwarded_for=f"2001:db8::{host}").status_code
        for host in range(6)
    ]
    assert found == [401] * 5 + [429]
    other = get(APIClient(), "subscriptions", x_forwarded_for="2001:db8:0:1::1")
    assert other.status_code == 401


def test_without_a_proxy_a_forwarded_address_is_ignored(client: APIClient) -> None:
    for number in range(6):
        get(APIClient(), "subscriptions", x_forwarded_for=f"10.0.0.{number}")
    assert statuses(client, 1) == [429]


def test_a_request_is_counted_in_one_round_trip_and_forgotten(
    client: APIClient, broker: redis.Redis
) -> None:
    get(client, "subscriptions")
    before: Any = broker.info("commandstats")
    get(client, "subscriptions")
    after: Any = broker.info("commandstats")
    calls_made = {
        name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
        for name in after
        if name in {"cmdstat_evalsha", "cmdstat_eval", "cmdstat_get", "cmdstat_set"}
    }
    assert {name for name, calls in calls_made.items() if calls} == {"cmdstat_evalsha"}
    assert calls_made["cmdstat_evalsha"] == 1
    for key in broker.scan_iter("usage:requests:*"):
        assert 0 < int(str(broker.ttl(key))) <= 120


def test_a_server_that_has_forgotten_the_script_learns_it(
    client: APIClient, broker: redis.Redis
) -> None:
    broker.script_flush()
    assert statuses(client, 4) == [200, 200, 200, 429]


def test_after_a_restart_of_valkey_the_next_request_is_counted(
    client: APIClient, broker: redis.Redis
) -> None:
    """Fails when an ended connection begins a pause in which nothing is counted."""
    assert statuses(client, 1) == [200]
    number = str(broker.get_connection_kwargs()["db"])
    sessions: Any = broker.client_list()
    ours = [each["id"] for each in sessions if each["db"] == number]
    for session in ours:
        broker.client_kill_filter(_id=session, skipme=True)
    assert statuses(client, 3) == [200, 200, 429]


def test_beyond_the_limit_of_the_address_no_token_is_counted(
    client: APIClient, counted: LazySettings, broker: redis.Redis
) -> None:
    """Fails when an address that guesses keys fills Valkey with a count for each."""
    counted.USAGE_ADDRESS_REQUESTS_PER_MINUTE = 0
    assert statuses(client, 1) == [429]
    [key] = broker.scan_iter("usage:requests:*")
    assert b":address:" in key


def test_no_request_of_many_at_once_is_lost(counted: LazySettings) -> None:
    """Fails when a count is read, changed and written back: DRF's throttles admit nearly all."""
    counted.USAGE_ADDRESS_REQUESTS_PER_MINUTE = 100
    factory = APIRequestFactory()

    def is_admitted(number: int) -> bool:
        try:
            throttles.count_request(Request(factory.get("/")))
        except Throttled:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(is_admitted, range(200))) == 100


@pytest.fixture
def silent(counted: LazySettings) -> Iterator[None]:
    """Replace Valkey by a server that accepts connections and never responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        counted.REDIS_URL = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        yield


def test_every_request_passes_while_valkey_hangs(silent: None, client: APIClient) -> None:
    """One request waits for a timeout; the next ones do not try until the pause has passed."""
    assert statuses(client, 6) == [200] * 6
    assert throttles._paused_until > time.monotonic()


def test_counting_goes_on_after_the_pause(
    client: APIClient, counted: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = counted.REDIS_URL
    counted.REDIS_URL = "redis://127.0.0.1:1/0"
    assert statuses(client, 4) == [200] * 4
    counted.REDIS_URL = there
    assert statuses(client, 4) == [200] * 4
    monkeypatch.setattr(throttles, "_paused_until", time.monotonic())
    assert statuses(client, 4) == [200, 200, 200, 429]


def test_an_address_that_only_celery_understands_counts_nothing(
    client: APIClient, counted: LazySettings
) -> None:
    counted.REDIS_URL = "sentinel://127.0.0.1:26379/0"
    assert statuses(client, 6) == [200] * 6
