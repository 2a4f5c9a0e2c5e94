"""Detection of a proxy that DJANGO_PROXIES does not count: in the log and in `check --deploy`."""

import logging

import pytest
import redis
from django.conf import LazySettings
from django.test import Client

from tests.processes import broker_url
from tests.silent import closed_port
from usage.checks import proxies_are_counted
from usage.monitoring import proxies

PROXY = "10.0.0.7"


@pytest.fixture(autouse=True)
def nothing_noted(
    broker: redis.Redis, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start with an empty Valkey, as in a new process."""
    settings.REDIS_URL = broker_url(broker)
    monkeypatch.setattr(proxies, "_next_note", 0.0)


def request(peer: str = PROXY, forwarded: str | None = "192.0.2.1") -> None:
    headers = {"X-Forwarded-For": forwarded} if forwarded is not None else {}
    Client(headers=headers).get("/health/live", REMOTE_ADDR=peer)


def test_a_proxy_that_is_not_counted_is_named() -> None:
    assert proxies_are_counted() == []
    request()
    [warning] = proxies_are_counted()
    assert warning.id == "usage.W004"
    assert f"came from {PROXY} within the last day" in warning.msg
    assert "DJANGO_PROXIES" in str(warning.hint)


def test_the_note_is_kept_for_a_day(broker: redis.Redis) -> None:
    request()
    assert 86_000 < int(str(broker.ttl(proxies.KEY))) <= 86_400


@pytest.mark.parametrize("peer", ["127.0.0.1", "", "fd00::1", "::ffff:10.0.0.7", "100.64.0.1"])
def test_a_proxy_may_have_any_address_that_is_not_public(peer: str) -> None:
    request(peer)
    assert len(proxies_are_counted()) == 1


def test_a_client_of_the_internet_that_sends_the_header_is_no_proxy() -> None:
    request("8.8.8.8")
    request("2a00:1450:4001::1")
    assert proxies_are_counted() == []


def test_requests_without_the_header_come_through_no_proxy() -> None:
    request(forwarded=None)
    assert proxies_are_counted() == []


def test_a_proxy_that_is_counted_is_not_named(settings: LazySettings) -> None:
    settings.DJANGO_PROXIES = 1
    request()
    settings.DJANGO_PROXIES = 0
    assert proxies_are_counted() == []
    request()
    settings.DJANGO_PROXIES = 1
    assert proxies_are_counted() == []


def test_a_process_notes_it_once_an_hour(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notes() -> int:
        return sum("DJANGO_PROXIES is 0" in record.getMessage() for record in caplog.records)

    with caplog.at_level(logging.WARNING):
        request()
        request()
        assert notes() == 1
        monkeypatch.setattr(proxies, "_next_note", proxies._next_note - 3_600)
        request()
        assert notes() == 2


def test_a_request_and_the_check_succeed_while_valkey_is_away(
    settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{closed_port()}/0"
    with caplog.at_level(logging.WARNING):
        request()
    assert "DJANGO_PROXIES is 0" in caplog.text
    assert proxies_are_counted() == []
