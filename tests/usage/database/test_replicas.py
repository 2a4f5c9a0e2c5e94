"""Two real streaming replicas: their responses, the as_of of these, and requests while one of the
servers is unavailable."""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from threading import Event
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import OperationalError, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django.plugin import DjangoDbBlocker
from rest_framework.test import APIClient

from tests.cluster import NAMES, Cluster, kill, started_cluster
from tests.connections import ask, in_thread, run_sql, second_session, wait_until
from tests.factories import client_of, data_record, make_subscription, refresh_and_seal
from tests.factories import refresh_totals as refresh
from tests.given import anna_and_bob
from tests.processes import database_url, run
from tests.usage.api.api_requests import LISTS, get, get_page, only_error
from tests.usage.monitoring.scraping import TOKEN, scrape, value
from usage.api import error_responses
from usage.database import membership, routing
from usage.lists.statements import Statement
from usage.models import AccessToken, Subscription, UsageState
from usage.monitoring import health
from usage.services.accounts.tokens import revoke_token
from usage.services.raw import clock

REPLICA1, REPLICA2 = NAMES
TOTALS = {path: LISTS[path] for path in ("usage/over-limit", "usage/totals", "usage/daily")}
DAY = date(2026, 11, 4)


@pytest.fixture(scope="module")
def whole_cluster(django_db_blocker: DjangoDbBlocker) -> Iterator[Cluster]:
    with django_db_blocker.unblock(), started_cluster() as cluster:
        anna_and_bob()
        yield cluster


@pytest.fixture
def cluster(
    whole_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> Iterator[Cluster]:
    """Start every server, with the same new totals."""
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 35
    settings.USAGE_METRICS_TOKEN = TOKEN
    monkeypatch.setattr(clock, "today", lambda: DAY)
    monkeypatch.setattr(routing, "_left_out", {})
    monkeypatch.setattr(membership, "_compared_at", {})
    monkeypatch.setattr(membership, "_primary", None)
    monkeypatch.setattr(health, "SECONDS_BETWEEN_LOOKS", 0)
    refresh()
    whole_cluster.catch_up()
    yield whole_cluster
    for name in [routing.PRIMARY, *NAMES]:
        connections[name].close()


@pytest.fixture
def client(cluster: Cluster) -> APIClient:
    """Make a client that may read all usage; its token has reached the replicas."""
    client = client_of(User.objects.create_user(f"client {time.monotonic_ns()}"))
    cluster.catch_up()
    return client


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leave out every replica but this one, so that reads go there or to the primary."""

    def leave(name: str) -> None:
        for_now = time.monotonic() + 1000
        others = [other for other in NAMES if other != name]
        monkeypatch.setattr(routing, "_left_out", dict.fromkeys(others, for_now))

    return leave


def statements_of(name: str, client: APIClient, path: str, query: str) -> tuple[list[str], bytes]:
    """Return the statements that a request sends to one of the servers, and the response. The check
    of the identity of the server, once a second, is left out."""
    with CaptureQueriesContext(connections[name]) as sent:
        response = get(client, path, query)
        body = b"".join(response) if response.streaming else response.content
    assert response.status_code == 200, body
    return [query["sql"] for query in sent if "pg_control_system" not in query["sql"]], body


def price_of_anna(client: APIClient) -> tuple[str, str]:
    """Return her total, and its as_of."""
    found = get_page(client, "usage/totals", "subscription_id=1&usage_type=data")
    return found["results"][0]["total_price"], found["as_of"]


@pytest.mark.parametrize("form", ["", "&format=csv"])
@pytest.mark.parametrize(("path", "query"), TOTALS.items())
def test_every_server_returns_the_same(
    client: APIClient, only: Callable[[str], None], path: str, query: str, form: str
) -> None:
    """Fails when a list is read from the primary, or from another server than its state."""
    bodies = set()
    for name in NAMES:
        only(name)
        sent, body = statements_of(name, client, path, query + form)
        assert "FROM usage_state" in sent[0]
        assert any("usage_daily" in sql or "usage_period" in sql for sql in sent[1:])
        bodies.add(body)
    only("none")
    sent, body = statements_of(routing.PRIMARY, client, path, query + form)
    assert {body} == bodies
    assert "sign_in" in sent[0]


def test_the_primary_only_signs_in_when_replicas_are_available(
    client: APIClient, only: Callable[[str], None]
) -> None:
    """Fails when a request also reads the totals or their state from the primary."""
    only(REPLICA1)
    price_of_anna(client)
    for path, query in TOTALS.items():
        [sign_in], _ = statements_of(routing.PRIMARY, client, path, query)
        assert sign_in.startswith("EXECUTE sign_in")


def test_every_replica_gets_a_share_of_the_reads(client: APIClient) -> None:
    with (
        CaptureQueriesContext(connections[REPLICA1]) as first,
        CaptureQueriesContext(connections[REPLICA2]) as second,
    ):
        for _ in range(40):
            price_of_anna(client)
    assert min(len(first), len(second)) > 10


def test_a_replica_that_lags_returns_its_own_as_of(
    cluster: Cluster, client: APIClient, only: Callable[[str], None]
) -> None:
    """Fails when as_of is read from another server than the totals."""
    run_sql("UPDATE usage_state SET as_of = clock_timestamp() - interval '1000 s'")
    with cluster.paused(REPLICA1):
        price, long_ago = price_of_anna(client)
        record = data_record(Subscription.objects.get(id=1), "2026-11-03T09:00:00Z", "0.5", 1)
        refresh()
        cluster.catch_up(REPLICA2)
        only(REPLICA1)
        assert price_of_anna(client) == (price, long_ago)
        only(REPLICA2)
        new_price, now = price_of_anna(client)
        assert (float(new_price), now > long_ago) == (float(price) + 0.5, True)

        # Only the totals of the primary are young enough, so it serves the request.
        only(REPLICA1)
        for who in ("subscription_id=1&", ""):
            young = get_page(client, "usage/totals", f"{who}usage_type=data&max_staleness=99")
            assert (young["as_of"], young["live"]) == (now, False)
            assert young["results"][0]["total_price"] == new_price
        old = get_page(client, "usage/totals", "max_staleness=600000")
        assert old["as_of"] == long_ago
    record.delete()


def test_monitoring_reports_a_replica_that_lags(cluster: Cluster) -> None:
    """Fails when the age of a replica is not computed from its own state."""
    run_sql("UPDATE usage_state SET as_of = clock_timestamp() - interval '1000 s'")
    with cluster.paused(REPLICA1):
        refresh()
        cluster.catch_up(REPLICA2)
        response = Client().get("/health/ready")
        checks = {check["name"]: check for check in json.loads(response.content)["checks"]}
        assert response.status_code == 503
        assert re.fullmatch(
            r"Its totals are 10\d\d s old, at most 180 s are allowed.",
            checks[REPLICA1]["detail"],
        )
        ok = {name: check["ok"] for name, check in checks.items()}
        assert (ok["totals_age"], ok[REPLICA1], ok[REPLICA2]) == (True, False, True)
        found = scrape()
        assert value(found, "usage_replica_totals_age_seconds", replica=REPLICA1) > 999
        assert value(found, "usage_replica_totals_age_seconds", replica=REPLICA2) < 900
        assert value(found, "usage_replicas_behind") == 1
        assert value(found, "usage_replicas_away") == 0


def test_live_totals_and_records_are_read_from_the_primary(
    cluster: Cluster, client: APIClient
) -> None:
    """Fails when a live response comes from a replica, which does not have the record yet."""
    with cluster.paused(*NAMES):
        record = data_record(Subscription.objects.get(id=2), "2026-11-03T09:00:00Z", "4", 1)
        make_subscription("carl", id=3)
        live = get_page(client, "usage/totals", "subscription_id=2&live=true")
        assert live["results"][0]["total_price"] == "7.30000001"
        day = get_page(client, "usage/records", "subscription_id=2&usage_type=data&day=2026-11-03")
        assert len(day["results"]) == 2
        assert len(get_page(client, "subscriptions")["results"]) == 3
        record.delete()
        Subscription.objects.get(id=3).delete()


def test_tags_are_right_on_every_server(
    cluster: Cluster, client: APIClient, only: Callable[[str], None]
) -> None:
    """Fails when the tag belongs to the state of another server than the response."""

    def status(tag: str) -> int:
        return get(client, "usage/totals", "month=2026-11", if_none_match=tag).status_code

    def tag() -> str:
        return get(client, "usage/totals", "month=2026-11")["ETag"]

    with cluster.paused(REPLICA1):
        only(REPLICA1)
        old = tag()
        assert status(old) == 304
        refresh()
        cluster.catch_up(REPLICA2)
        assert tag() == old
        assert status(old) == 304
        only(REPLICA2)
        new = tag()
        assert new != old
        assert (status(new), status(old)) == (304, 200)
        # A client with the newest response gets a 304, not an older response.
        only(REPLICA1)
        assert status(new) == 304


def test_pages_are_read_from_a_replica_and_people_sign_in_at_the_primary(
    cluster: Cluster, only: Callable[[str], None]
) -> None:
    """Fails when a page is read from the primary, or its header from another server."""
    browser = Client()
    browser.force_login(User.objects.create_user("olga", is_staff=True))
    days = {"from_date": "2026-11-01", "to_date": "2026-11-04"}
    with cluster.paused(*NAMES):
        record = data_record(Subscription.objects.get(id=1), "2026-11-03T09:00:00Z", "0.5", 1)
        refresh()
        only(REPLICA1)
        # The replica has neither the session nor the new totals yet.
        for path, query in {"/": days, "/over-limit/": {"price_limit": "0"}}.items():
            with CaptureQueriesContext(connections[routing.PRIMARY]) as sent:
                lagging = browser.get(path, query)
            assert lagging.status_code == 200
            assert not [
                statement
                for statement in sent
                if "usage_" in statement["sql"] and "pg_control_system" not in statement["sql"]
            ]
            only("none")
            assert browser.get(path, query).context["freshness"].as_of > (
                lagging.context["freshness"].as_of
            )
            only(REPLICA1)
        assert browser.get("/refreshes/").context["freshness"].as_of == (
            UsageState.objects.get().as_of
        )
    record.delete()


def test_a_query_that_a_replica_cannot_run_yet_goes_to_the_primary(
    cluster: Cluster, only: Callable[[str], None]
) -> None:
    """A new release may read a column that its migration has just made."""
    only(REPLICA1)
    with cluster.paused(*NAMES):
        run_sql("CREATE TABLE from_a_migration AS SELECT 7 AS number")
        try:
            statement = Statement("SELECT number FROM from_a_migration", ())
            assert routing.read(lambda: statement.fetch({}))[1] == [(7,)]
            assert REPLICA1 not in routing._left_out
        finally:
            run_sql("DROP TABLE from_a_migration")


@pytest.fixture
def load(client: APIClient) -> Callable[[Event], list[Any]]:
    """Return a function that sends requests until the event and returns the wrong responses."""
    expected = {path: get_page(client, path, query)["results"] for path, query in TOTALS.items()}

    def request_until(done: Event) -> list[Any]:
        wrong = []
        try:
            while not done.wait(0.01):
                for path, query in TOTALS.items():
                    response = get(client, path, query)
                    if response.status_code != 200 or response.json()["results"] != expected[path]:
                        wrong.append((path, response.status_code, response.content))
        finally:
            connections.close_all()
        return wrong

    return request_until


def test_no_read_fails_when_a_replica_is_killed_and_it_comes_back(
    cluster: Cluster,
    client: APIClient,
    load: Callable[[Event], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when a read is not repeated on another server, or a replica is left out forever."""
    monkeypatch.setattr(routing, "LEFT_OUT_SECONDS", 0.5)
    done = Event()
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, done) for _ in range(4)]
        try:
            time.sleep(0.5)
            kill(cluster.replicas[REPLICA1])
            wait_until(lambda: REPLICA1 in routing._left_out, what="the replica to be left out")
            away = Client().get("/health/ready")
            assert away.status_code == 503
            assert "cannot be reached; others answer for it" in away.content.decode()
            assert value(scrape(), "usage_replicas_away") == 1
            time.sleep(1)
            cluster.replicas[REPLICA1].start()
            wait_until(lambda: not routing._left_out, what="the replica to be tried again")
        finally:
            done.set()
        assert [each.result() for each in loads] == [[], [], [], []]
    cluster.catch_up()


def test_reads_go_on_while_the_primary_is_unavailable(
    cluster: Cluster, client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when signing in needs the primary, or when a read that needs the primary succeeds."""
    monkeypatch.setattr(routing, "LEFT_OUT_SECONDS", 0.5)
    browser = Client()
    browser.force_login(User.objects.create_user("otto", is_staff=True))
    revoked = client_of(User.objects.create_user("revoked"))
    revoke_token(AccessToken.objects.get(user__username="revoked").pk)
    before = price_of_anna(client)
    cluster.catch_up()
    kill(cluster.primary)
    try:
        for _ in range(5):
            assert price_of_anna(client) == before
        page = browser.get("/", {"from_date": "2026-11-01", "to_date": "2026-11-04"})
        assert page.status_code == 200
        assert page.context["freshness"].as_of.isoformat()[:19] == before[1][:19]
        assert get(revoked, "usage/totals").status_code == 401
        for query in ("subscription_id=1&live=true", "subscription_id=1&max_staleness=0"):
            error = only_error(get(client, "usage/totals", query), "server_error")
            assert error["code"] == "database_unavailable"
        assert get(client, "subscriptions").status_code == 503
        # A replica serves the whole request of a person then, but never as a live response.
        totals = "/api/v1/usage/totals/?subscription_id=1"
        assert browser.get(totals).json()["as_of"] == before[1]
        assert browser.get(f"{totals}&live=true").status_code == 503
        checks = json.loads(Client().get("/health/ready").content)["checks"]
        assert {check["name"]: check["ok"] for check in checks}["database"] is False
    finally:
        cluster.primary.start()
    wait_until(lambda: get(client, "subscriptions").status_code == 200, what="the primary")
    refresh()
    cluster.catch_up()
    assert price_of_anna(client)[1] > before[1]


def test_a_replica_that_is_tried_again_signs_nobody_in(
    cluster: Cluster, client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokens may be old, because it may have been unavailable for long. Fails when a sign-in
    tries it before the primary, or when later reads never try it."""
    revoked = client_of(User.objects.create_user("revoked long ago"))
    cluster.catch_up()
    monkeypatch.setattr(routing, "_left_out", dict.fromkeys(NAMES, time.monotonic() - 1))
    with cluster.paused(*NAMES):
        revoke_token(AccessToken.objects.get(user__username="revoked long ago").pk)
        assert get(revoked, "usage/totals").status_code == 401
        assert len(routing._left_out) == 2
        for left in (1, 0):
            price_of_anna(client)
            assert len(routing._left_out) == left
    cluster.catch_up()


def test_a_long_read_stops_no_seal_and_is_not_ended(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These replicas have hot_standby_feedback. Without it, replay cancels the read."""
    with second_session(host=str(cluster.replicas[REPLICA1].socket)) as reader:
        ask(reader, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        seen = ask(reader, "SELECT * FROM usage_daily ORDER BY subscription_id, day, usage_type")
        wait_until(
            lambda: cluster.ask(
                routing.PRIMARY, "SELECT count(backend_xmin) = 2 FROM pg_stat_replication"
            ),
            what="the primary to get the feedback",
        )
        for days in range(1, 4):
            today = DAY + timedelta(days)
            monkeypatch.setattr(clock, "today", lambda today=today: today)
            data_record(Subscription.objects.get(id=1), f"{today}T09:00:00Z", "1", 1)
            refresh_and_seal()
            assert UsageState.objects.get().sealed_before == today - timedelta(days=1)
        run_sql("VACUUM usage_daily_open")
        cluster.catch_up(REPLICA1)
        again = ask(reader, "SELECT * FROM usage_daily ORDER BY subscription_id, day, usage_type")
        assert again == seen


def test_a_read_that_replay_cancels_is_repeated_on_another_server(
    cluster: Cluster, only: Callable[[str], None]
) -> None:
    """The replica has no hot_standby_feedback. Fails when a cancelled read fails, when its error is
    not recognised, or when its replica is left out."""
    ended: list[Exception] = []
    tried: list[str] = []
    slow = Statement("SELECT count(*), pg_sleep(60) FROM usage_daily_open", ())
    quick = Statement("SELECT count(*) FROM usage_daily_open", ())

    def look() -> list[tuple[Any, ...]]:
        tried.append(routing.current())
        try:
            return (slow if routing.current() == REPLICA1 else quick).fetch({})[1]
        except OperationalError as error:
            ended.append(error)
            raise

    def set_on_replica(feedback: str, delay: str) -> None:
        for name, setting in {
            "hot_standby_feedback": feedback,
            "max_standby_streaming_delay": delay,
        }.items():
            cluster.ask(REPLICA1, f"ALTER SYSTEM SET {name} = '{setting}'")
        cluster.ask(REPLICA1, "SELECT pg_reload_conf()")

    only(REPLICA1)
    record = data_record(Subscription.objects.get(id=1), "2026-12-24T09:00:00Z", "1", 1)
    refresh()
    cluster.catch_up(REPLICA1)
    set_on_replica("off", "0")
    try:
        with in_thread(lambda: routing.read(look)) as reading:
            wait_until(
                lambda: cluster.ask(
                    REPLICA1,
                    "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
                ),
                what="the read to begin",
            )
            record.delete()
            refresh()

            def cleaned_up() -> bool:
                run_sql("VACUUM usage_daily_open")
                time.sleep(0.2)
                return reading.done()

            wait_until(cleaned_up, seconds=40, what="replay to cancel the read")
            [(count,)] = reading.result()
    finally:
        set_on_replica("on", "30s")
    assert count == run_sql("SELECT count(*) FROM usage_daily_open")[0][0]
    assert tried == [REPLICA1, routing.PRIMARY]
    assert REPLICA1 not in routing._left_out
    # If no other server is available, the response says when to retry.
    response: Any = error_responses.handle(ended[0], {})
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert "ended" in response.data["errors"][0]["detail"]


def test_an_export_can_read_from_a_replica(cluster: Cluster, tmp_path: Any) -> None:
    """`DATABASE_URL` may name a replica for a command that only reads."""
    written = []
    for name in (routing.PRIMARY, REPLICA2):
        server = cluster.primary if name == routing.PRIMARY else cluster.replicas[name]
        file = tmp_path / f"{name}.csv"
        done = run(
            "manage.py", "export_usage", str(file), "--what=daily", DATABASE_URL=server.url()
        )
        assert done.returncode == 0, done.stderr
        written.append(file.read_bytes())
    assert written[0] == written[1]
    assert written[0].count(b"\n") > 3


def test_the_settings_name_the_replicas(cluster: Cluster) -> None:
    """The real web process finds them by DATABASE_REPLICA_URL."""
    show = (
        "import config.wsgi\n"
        "from django.db import connections\n"
        "for name in connections:\n"
        "    with connections[name].cursor() as cursor:\n"
        "        cursor.execute('SELECT pg_is_in_recovery()')\n"
        "        print(name, *cursor.fetchone(), end=' ')\n"
        "        cursor.execute('SHOW lock_timeout')\n"
        "        print(*cursor.fetchone())\n"
    )
    urls = ", ".join(cluster.replicas[name].url() for name in NAMES)
    shown = run("-c", show, DATABASE_URL=database_url(), DATABASE_REPLICA_URL=urls)
    assert shown.stdout.splitlines() == [
        "default False 5s",
        "replica1 True 5s",
        "replica2 True 5s",
    ], shown.stderr
