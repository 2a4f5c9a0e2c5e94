"""Places and processes for tests that start real servers."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def open_directory() -> Iterator[Path]:
    """A directory that every account can enter; pytest's own is closed to others."""
    made = Path(tempfile.mkdtemp(prefix="usage-", dir="/tmp")).resolve()
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def own_servers() -> dict[str, str]:
    """The environment without the addresses of servers, so that embedded ones start."""
    named = {"DATABASE_URL", "REDIS_URL", "DJANGO_SECRET_KEY", "DJANGO_SETTINGS_MODULE"}
    rest = {name: value for name, value in os.environ.items() if name not in named}
    return rest | {"DATABASE_REPLICA_URL": "postgresql://of.another.deployment/usage"}
