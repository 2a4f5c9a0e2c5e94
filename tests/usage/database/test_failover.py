"""Servers that are no replica of the primary, and the failover that docs/restores.md describes."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from io import StringIO

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client
from pytest_django.plugin import DjangoDbBlocker
from rest_framework.test import APIClient

from tests.cluster import NAMES, Cluster, kill, lead, started_cluster
from tests.connections import ask, run_sql, wait_until
from tests.factories import client_of, data_record
from tests.factories import refresh_totals as refresh
from tests.given import anna_and_bob
from tests.usage.api.api_requests import get_page
from tests.usage.monitoring.scraping import TOKEN, scrape, value
from usage.database import identity, membership, routing
from usage.models import Subscription
from usage.monitoring import health
from usage.services.audit.restores import check_restore

REPLICA1, REPLICA2 = NAMES


@pytest.fixture
def cluster(
    django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> Iterator[Cluster]:
    """Start a cluster for one test, since a promoted server cannot become a replica again."""
    settings.USAGE_METRICS_TOKEN = TOKEN
    monkeypatch.setattr(health, "SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(routing, "LEFT_OUT_SECONDS", 0.1)
    monkeypatch.setattr(membership, "COMPARE_SECONDS", 0)
    monkeypatch.setattr(routing, "_left_out", {})
    monkeypatch.setattr(membership, "_compared_at", {})
    monkeypatch.setattr(membership, "_primary", None)
    with django_db_blocker.unblock(), started_cluster() as cluster:
        anna_and_bob()
        run_sql("SELECT setval('usage_subscription_id_seq', 2)")
        refresh()
        yield cluster


@pytest.fixture
def prices(cluster: Cluster) -> Callable[[], set[str]]:
    """Return a function that reads the total of Anna 40 times, so that it reaches each server."""
    client = client_of(User.objects.create_user("client"))
    cluster.catch_up()
    return lambda: {price_of_anna(client) for _ in range(40)}


def price_of_anna(client: APIClient) -> str:
    found = get_page(client, "usage/totals", "subscription_id=1&usage_type=data")
    return found["results"][0]["total_price"]


def make_totals_differ(cluster: Cluster, name: str) -> None:
    """Change the amounts on one server, so that its responses differ from those of the primary."""
    cluster.ask(name, "UPDATE usage_datausagerecord SET price = price + 7777")
    cluster.ask(name, "REFRESH MATERIALIZED VIEW usage_daily_open")
    cluster.ask(name, "UPDATE usage_period_total SET total_price = total_price + 7777")


def assert_named(name: str, fault: str) -> None:
    """Assert that readiness, metrics and status name the server and why it is left out."""
    response = Client().get("/health/ready")
    assert response.status_code == 503
    checks = {check["name"]: check["detail"] for check in json.loads(response.content)["checks"]}
    assert fault in checks[name]
    found = scrape()
    assert value(found, "usage_replicas_foreign") == 1
    assert value(found, "usage_replicas_away") == 0
    out = StringIO()
    call_command("usage_status", stdout=out)
    [line] = [line for line in out.getvalue().splitlines() if f"{name} " in line]
    assert fault in line
    assert "it is left out" in line


def test_a_replica_that_was_promoted_answers_nothing(
    cluster: Cluster, prices: Callable[[], set[str]]
) -> None:
    """Fails when a server is used only because it responds."""
    before = prices()
    assert len(before) == 1
    cluster.ask(REPLICA1, "SELECT pg_promote()")
    make_totals_differ(cluster, REPLICA1)
    assert prices() == before
    assert_named(REPLICA1, "is not a replica but takes writes itself")


def test_a_replica_with_another_database_answers_nothing(
    cluster: Cluster, prices: Callable[[], set[str]]
) -> None:
    """Fails when the identity lacks the name of the database; the uuid of a copy is the same."""
    before = prices()
    connections[routing.PRIMARY].close()
    for name in NAMES:
        connections[name].close()
    cluster.ask(
        routing.PRIMARY,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = 'usage' AND pid <> pg_backend_pid()",
    )
    with closing(cluster.primary.connect("postgres")) as session:
        ask(session, "CREATE DATABASE other TEMPLATE usage OWNER usage")
    with closing(cluster.primary.connect("other")) as session:
        ask(session, "UPDATE usage_period_total SET total_price = total_price + 7777")
    cluster.catch_up()
    connections.settings[REPLICA2]["NAME"] = "other"
    try:
        assert prices() == before
        assert_named(REPLICA2, "has another database than the primary")
        [primary, other] = [identity.read(name) for name in (routing.PRIMARY, REPLICA2)]
        assert primary is not None
        assert other is not None
        assert (primary.uuid, primary.system) == (other.uuid, other.system)
        assert primary.key != other.key
    finally:
        connections[REPLICA2].close()
        connections.settings[REPLICA2]["NAME"] = "usage"


def test_failover_as_the_page_describes_it(
    cluster: Cluster, prices: Callable[[], set[str]]
) -> None:
    """The old primary is dead, one replica is promoted, and the other one follows it.

    Fails when the other replica is used before it follows the new primary, or is never used again.
    """
    before = prices()
    kill(cluster.primary)
    assert prices() == before
    cluster.ask(REPLICA1, "SELECT pg_promote()")
    promoted = cluster.replicas[REPLICA1]
    lead(routing.PRIMARY, promoted)
    connections[REPLICA1].close()
    del connections[REPLICA1], connections.settings[REPLICA1]

    problems = [found.problem for found in check_restore()]
    assert problems == ["No refresh has run since this database came here."]
    data_record(Subscription.objects.get(id=1), "2026-11-03T10:00:00Z", "1", 1)
    refresh()
    assert check_restore() == []
    known = identity.read(routing.PRIMARY)
    assert known is not None
    assert known.timeline == 2
    after = prices()
    assert len(after) == 1
    assert after != before
    assert_named(REPLICA2, "follows another timeline than the primary")

    follow = f"host={promoted.socket} port=5432 user=postgres"
    cluster.ask(REPLICA2, f"ALTER SYSTEM SET primary_conninfo = '{follow}'")
    cluster.ask(REPLICA2, "SELECT pg_reload_conf()")
    wait_until(
        lambda: value(scrape(), "usage_replicas_foreign") == 0,
        seconds=60,
        what="the replica to follow",
    )
    assert prices() == after
    assert Client().get("/health/ready").status_code == 200
