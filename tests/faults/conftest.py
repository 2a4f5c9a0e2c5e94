"""Fixtures of the faults: the number of trials, and servers that a test may break."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from bin.checks import server_version
from tests.faults.installation import Installation, installed
from tests.faults.trials import Trials

FULL = os.environ.get("USAGE_FAULT_TRIALS") == "full"
# Timeouts by row. Each row ends earlier by itself; the soak takes an hour.
MINUTES = {16: 65, 18: 35}
ROW = pytest.StashKey[Trials]()


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest) -> Iterator[Trials]:
    """Yield the trials of this row; with --faults write its line of the table at the end."""
    counted = Trials(row_of(request.path), full=FULL)
    request.node.stash[ROW] = counted
    yield counted
    if FULL:
        counted.write(server_version(os.environ["DATABASE_URL"]))


@pytest.fixture
def installation() -> Iterator[Installation]:
    """Yield a migrated database and a broker, on servers that the test may break."""
    with installed() as made:
        yield made


def row_of(path: Path) -> int:
    return int(path.name.split("_")[1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FULL and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(60 * MINUTES.get(row_of(item.path), 22)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a failure of a row for its line in the table."""
    report = yield
    module = item.getparent(pytest.Module)
    if report.failed and module is not None and ROW in module.stash:
        module.stash[ROW].failures += 1
    return report
