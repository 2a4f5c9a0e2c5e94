"""Audits while keys wait for repair and days are closed: exactly the wrong keys are reported."""

from collections.abc import Callable
from datetime import date

import pytest

from tests.connections import run_sql
from tests.factories import data_record, make_subscription, refresh_and_seal
from usage.models import LateKey
from usage.services.audit import verification
from usage.services.audit.verification import verify
from usage.services.totals.retention import prune

pytestmark = [
    pytest.mark.usefixtures("state"),
    pytest.mark.one_server("no record comes late there"),
]


@pytest.fixture(autouse=True)
def a_sealed_day(state: None, set_today: Callable[[str], None]) -> None:
    set_today("2026-11-04")
    for pk in (1, 2):
        data_record(make_subscription(id=pk), "2026-11-01T12:00:00Z", price="1")
    refresh_and_seal()


def test_key_that_waits_for_repair_hides_no_other_key() -> None:
    """Fails when the query compares the columns of late keys with themselves."""
    data_record(make_subscription(id=3), "2026-11-01T12:00:00Z", price="1")
    run_sql("UPDATE usage_daily_sealed SET total_price = 9 WHERE subscription_id = 1")
    assert LateKey.objects.count() == 1
    assert [found.subscription_id for found in verify().differences] == [1]


def test_day_closed_before_the_audit_compares_it_does_not_differ(
    set_today: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an audit compares a day whose raw records were dropped after the audit began."""
    compare = verification._compare

    def prune_then_compare(*arguments: object) -> None:
        set_today("2026-11-09")
        refresh_and_seal()
        prune()
        compare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(verification, "_compare", prune_then_compare)
    assert verify(to_date=date(2026, 11, 1)).differing == 0
    assert run_sql("SELECT count(*) FROM usage_datausagerecord") == [(0,)]
