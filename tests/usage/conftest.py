"""Fixtures for tests of the read model."""

from collections.abc import Callable, Iterator
from datetime import date

import pytest
from django.conf import LazySettings

from tests.connections import run_sql
from usage.services import clock
from usage.services.partitions import RAW_TABLES, partition_days


@pytest.fixture
def only_default_partitions(state: None) -> Iterator[None]:
    """Raw tables that begin and end the test with their default partition alone."""
    _drop_partitions()
    yield
    _drop_partitions()


@pytest.fixture
def set_today(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Callable[[str], None]:
    """Says which day is today; two days are open and raw records are kept for five."""
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 5

    def set_it(day: str) -> None:
        monkeypatch.setattr(clock, "today", lambda: date.fromisoformat(day))

    return set_it


def _drop_partitions() -> None:
    for table in RAW_TABLES:
        for day in partition_days(table):
            run_sql(f"DROP TABLE {table}_p{day:%Y%m%d}")
