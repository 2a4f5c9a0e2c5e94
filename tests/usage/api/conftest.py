"""Fixtures of the API: sealed days with late records, and a queue."""

from collections.abc import Callable
from datetime import date

import pytest
import redis
from django.conf import LazySettings

from tests.connections import ON_CITUS
from tests.factories import data_record, make_subscription, refresh_and_seal, voice_record
from usage.database.identity import queue_name
from usage.models import LateKey
from usage.services.raw import clock


@pytest.fixture
def clock_at(
    state: None, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> Callable[[str], None]:
    """Return a function that sets today. A refresh seals the days before yesterday, and none on
    Citus, where all 35 days of raw records are open."""
    settings.USAGE_OPEN_DAYS = 35 if ON_CITUS else 2
    settings.USAGE_RAW_RETENTION_DAYS = 35

    def move(day: str) -> None:
        monkeypatch.setattr(clock, "today", lambda: date.fromisoformat(day))

    return move


@pytest.fixture
def sealed_usage(clock_at: Callable[[str], None]) -> None:
    """Refresh totals on 2026-11-04, with the days before 2026-11-03 sealed. After that add records
    of anna (1) on a sealed, an open and a future day, and delete the only record of bob (2)."""
    anna, bob = make_subscription("anna", id=1), make_subscription("bob", id=2)
    data_record(anna, "2026-11-01T12:00:00Z", price="1.00", kilobytes=10)
    voice_record(anna, "2026-11-01T12:00:00Z", price="7.00", seconds=60)
    data_record(anna, "2026-11-03T12:00:00Z", price="1.00", kilobytes=10)
    wrong = data_record(bob, "2026-11-02T12:00:00Z", price="5.00", kilobytes=50)
    clock_at("2026-11-04")
    refresh_and_seal()
    data_record(anna, "2026-11-01T13:00:00Z", price="2.00", kilobytes=20)
    data_record(anna, "2026-11-03T13:00:00Z", price="0.50", kilobytes=5)
    voice_record(anna, "2026-12-24T18:00:00Z", price="4.00", seconds=30)
    wrong.delete()
    assert LateKey.objects.count() == (0 if ON_CITUS else 2)


@pytest.fixture
def queue(broker: redis.Redis, settings: LazySettings) -> Callable[[], int]:
    """Return a function that counts the queued messages, on a broker of this test alone."""
    number = broker.get_connection_kwargs()["db"]
    settings.REDIS_URL = f"{settings.REDIS_URL.rpartition('/')[0]}/{number}"

    def waiting() -> int:
        found = broker.llen(queue_name())
        assert isinstance(found, int)
        return found

    return waiting
