"""A running server with usage of a month, for the generated clients."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.contrib.auth.models import User
from pytest_django.live_server_helper import LiveServer

from tests.connections import run_sql
from tests.factories import make_key, make_subscription, refresh_totals
from tests.given import given
from usage.models import Scope

# The scheme of the key. The default of generated clients is Bearer.
SCHEME = "Bearer"


@dataclass(frozen=True)
class Running:
    """The URL of the server, and the key of a token with every scope."""

    url: str
    key: str


@pytest.fixture
def running(state: None, queue: Callable[[], int], live_server: LiveServer) -> Running:
    """Run a server with refreshed totals, whose raw records before 2026-10-21 are dropped."""
    make_subscription("sub-000001", id=1)
    make_subscription("sub-000002", id=2)
    given("""
        data  sub-000001 2026-11-01T10:00:00Z 160.10 10
        voice sub-000001 2026-11-03T11:00:00Z 0.05   60
        data  sub-000002 2026-11-03T10:00:00Z 1000.5 7
    """)
    refresh_totals()
    run_sql("UPDATE usage_state SET raw_kept_from = '2026-10-21'")
    scopes = [Scope.READ, Scope.REFRESH_READ, Scope.REFRESH_RUN]
    return Running(live_server.url, make_key(User.objects.create_user("client"), *scopes))
