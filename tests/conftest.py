"""Fixtures for every test. The name of a fixture says what it yields."""

import json
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from psycopg2.sql import SQL
from rest_framework.test import APIClient

from bin import place as places
from bin.checks import WORKER_SERVERS
from tests import costs
from tests.connections import CITUS, ON_CITUS
from tests.factories import client_of
from usage.models import RAW_TABLES, RefreshRun, Subscription
from usage.services.capture.citus import distribute
from usage.services.raw.partitions import leaf_partitions


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a process of pytest-xdist its own servers, before it reads the settings."""
    if servers := json.loads(os.environ.get(WORKER_SERVERS, "[]")):
        number = int(node.workerinput["workerid"].removeprefix("gw"))
        channel = node.gateway.remote_exec("import os; os.environ.update(channel.receive())")
        channel.send(servers[number])
        channel.waitclose()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> costs.Scheduler:
    return costs.Scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark each test by its cost; skip those that can't pass on a cluster, or that need one."""
    costs.mark(items)
    for item in items:
        if ON_CITUS and (mark := item.get_closest_marker("one_server")):
            item.add_marker(pytest.mark.skip(f"not on Citus: {mark.args[0]}"))
        if not ON_CITUS and item.get_closest_marker("citus"):
            item.add_marker(pytest.mark.skip(f"{CITUS} names no coordinator of a Citus cluster"))
    yield
    costs.sort(items)


if ON_CITUS:
    # An operator has made this database and its workers; the tests must not create it again.

    @pytest.fixture(scope="session")
    def django_db_keepdb() -> bool:
        return True

    @pytest.fixture(scope="session")
    def django_db_modify_db_settings() -> None:
        connection.settings_dict["TEST"]["NAME"] = connection.settings_dict["NAME"]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Let sequences begin beyond the ids that tests choose, whatever test is the first."""
    with django_db_blocker.unblock():
        if ON_CITUS:
            distribute()
            # An earlier run may have been interrupted. The flush also deletes the row of state.
            call_command("flush", interactive=False, verbosity=0)
            _drop_partitions()
            _start_over()
        with connection.cursor() as cursor:
            for model in (Subscription, RefreshRun):
                table = model._meta.db_table
                cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), 1000000)", [table])


@pytest.fixture
def state(transactional_db: None) -> Iterator[None]:
    """Prepare a database for tests that commit: one row of state, and empty totals.

    Django's flush empties all tables, also usage_state, but no materialized view.
    """
    _start_over()
    yield
    _start_over()


@pytest.fixture
def only_default_partitions(state: None) -> Iterator[None]:
    """Drop all partitions except the default ones, before and after the test."""
    _drop_partitions()
    yield
    _drop_partitions()


def _drop_partitions() -> None:
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            # By name: the partitions of another zone match no day of this zone.
            for leaf in leaf_partitions(table):
                if leaf.name != f"{table}_default":
                    cursor.execute(SQL("DROP TABLE {}").format(leaf.identifier))


def _start_over() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE usage_datausagerecord, usage_voiceusagerecord")
        cursor.execute("TRUNCATE usage_daily_sealed, usage_late_key, usage_period_total")
        cursor.execute("ALTER SEQUENCE usage_logging_before RESTART")
        cursor.execute("ALTER SEQUENCE usage_raw_kept_from RESTART")
        cursor.execute("SELECT usage_close_days(NULL)")
        cursor.execute("DELETE FROM usage_state")
        cursor.execute(
            "INSERT INTO usage_state (id, time_zone, late_keys, as_of)"
            " VALUES (1, 'UTC', %s, now())",
            [settings.USAGE_LATE_KEYS],
        )
        cursor.execute("REFRESH MATERIALIZED VIEW usage_daily_open")


@pytest.fixture
def client_with_token(db: None) -> APIClient:
    """Return an API client that may read the usage of every subscription."""
    return client_of(get_user_model().objects.create_user("client"))


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    """Yield a client of an empty database of the broker that nothing else uses; flush it after."""
    server = urlsplit(settings.REDIS_URL)
    for number in range(15, 0, -1):
        client = redis.Redis.from_url(server._replace(path=f"/{number}").geturl())
        if not client.dbsize() and client.set("taken by a test", os.getpid(), nx=True, ex=600):
            yield client
            client.flushdb()
            return
    raise AssertionError(f"no database of {server.hostname} is empty: free one for the test")


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory that the account of the servers may enter, with a short path."""
    made = places.passing_place(places.server_account())
    yield made
    shutil.rmtree(made)


def pytest_report_header() -> str:
    return f"database engine: {settings.DATABASES['default']['ENGINE']}"
