"""Users of the pages, and usage for the pages to show."""

from collections.abc import Callable
from datetime import date

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.factories import make_subscription
from tests.given import given
from tests.usage.api.api_requests import fill_totals
from usage.services.raw import clock


@pytest.fixture
def operator(db: None) -> Client:
    """Return a client in which a staff user is signed in."""
    client = Client()
    client.force_login(User.objects.create_user("olga", password="only-for-tests", is_staff=True))
    return client


@pytest.fixture
def customer(db: None) -> User:
    """Return a user who is not staff."""
    return User.objects.create_user("carl", password="only-for-tests")


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that sets today."""

    def move(day: str) -> None:
        monkeypatch.setattr(clock, "today", lambda: date.fromisoformat(day))

    return move


@pytest.fixture
def usage(db: None, customer: User, today: Callable[[str], None]) -> None:
    """Store three days of usage of anna (1), which carl owns, and bob (2). Today is 2026-11-04."""
    make_subscription("anna", id=1, owner=customer)
    make_subscription("bob", id=2)
    given("""
        data  anna 2026-11-01T10:00:00Z 1.10       10
        data  anna 2026-11-03T10:00:00Z 2.20       20
        voice anna 2026-11-03T11:00:00Z 0.05       60
        voice bob  2026-11-03T10:00:00Z 3.30000001 90
        data  bob  2026-11-03T10:00:00Z 1000.5     7
    """)
    fill_totals()
    today("2026-11-04")
