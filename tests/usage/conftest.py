"""Fixtures for tests of the read model."""

from collections.abc import Iterator

import pytest

from tests.connections import run_sql
from usage.services.partitions import RAW_TABLES, partition_days


@pytest.fixture
def only_default_partitions(state: None) -> Iterator[None]:
    """Raw tables that begin and end the test with their default partition alone."""
    _drop_partitions()
    yield
    _drop_partitions()


def _drop_partitions() -> None:
    for table in RAW_TABLES:
        for day in partition_days(table):
            run_sql(f"DROP TABLE {table}_p{day:%Y%m%d}")
