"""Fixtures for tests of the read model."""

from collections.abc import Callable
from datetime import date

import pytest
from django.conf import LazySettings

from usage.services import clock


@pytest.fixture
def set_today(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Callable[[str], None]:
    """Says which day is today; two days are open and raw records are kept for five."""
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 5

    def set_it(day: str) -> None:
        monkeypatch.setattr(clock, "today", lambda: date.fromisoformat(day))

    return set_it
