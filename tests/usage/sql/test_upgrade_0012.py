"""Wrong totals that the previous release left: migrations 0012 and 0013 find and mend them."""

from collections.abc import Iterator
from functools import partial

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, in_thread, second_session, wait_until
from tests.exact import periods_of, plain_totals, stored_periods, totals_of
from tests.processes import database_url, run, scratch_database

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.one_server("the release before can't be migrated to there"),
]

OLD = "0011"
RECORDS = """
    INSERT INTO usage_subscription (external_id, created_at) VALUES ('A', now());
    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    SELECT id, current_date - days * interval '1 day' + interval '1 hour', 1, 1
    FROM usage_subscription, generate_series(0, 5) AS back (days)
"""
# The faults of the previous release: months lack sealed totals, and a trigger is off.
WRONG = """
    INSERT INTO usage_daily_sealed
    SELECT * FROM usage_totals_of_days(current_date - 10, current_date - 2);
    UPDATE usage_state SET as_of = now(), sealed_before = current_date - 1,
        fence_day = current_date - 1, fence = 1, open_digest = 1;
    SELECT setval('usage_logging_before', (current_date - 1) - date '1999-12-31');
    REFRESH MATERIALIZED VIEW usage_daily_open;
    ALTER TABLE usage_datausagerecord DISABLE TRIGGER usage_log_late_keys_update;
    UPDATE usage_datausagerecord SET price = 100 WHERE usage_date < current_date - 2;
    INSERT INTO usage_period_total
    SELECT subscription_id, '0001-01-01', 'data', 6, 6, 6, TRUE
    FROM (SELECT id AS subscription_id FROM usage_subscription) AS one
"""
ENVIRONMENT = {"USAGE_OPEN_DAYS": "2", "USAGE_RAW_RETENTION_DAYS": "30"}


@pytest.fixture
def database() -> Iterator[str]:
    """Make a database of the previous release, wrong in three ways, and return its URL."""
    with scratch_database() as name:
        url = database_url(name)
        assert run("manage.py", "migrate", "usage", OLD, DATABASE_URL=url).returncode == 0
        with second_session(dbname=name, autocommit=True) as session:
            ask(session, RECORDS)
            ask(session, WRONG)
        yield url


@pytest.fixture
def session(database: str) -> Iterator[Connection]:
    name = database.partition("?")[0].rpartition("/")[2]
    with second_session(dbname=name, autocommit=True) as session:
        yield session


def test_the_first_refreshes_mend_faults_of_the_previous_release(
    database: str, session: Connection
) -> None:
    """Fails when months are not compared, and when a trigger is turned on without an audit."""
    migrated = run("manage.py", "migrate", DATABASE_URL=database)
    assert migrated.returncode == 0, migrated.stderr
    output = ""
    for _ in range(5):
        refreshed = run("manage.py", "refresh_usage", DATABASE_URL=database, **ENVIRONMENT)
        assert refreshed.returncode == 0, refreshed.stderr
        output += refreshed.stdout
    days = "SELECT count(DISTINCT date_trunc('month', usage_date)) FROM usage_datausagerecord"
    ((months,),) = ask(session, days)  # two in the first days of a month
    assert f": {months + 1} were wrong or missing" in output  # and that of all days
    assert "was computed again: 1 totals were wrong" in output
    query = partial(ask, session)
    assert totals_of("usage_daily", query) == plain_totals(query)
    assert stored_periods(query) == periods_of(plain_totals(query))


def test_migrating_waits_for_a_refresh_and_a_writer(database: str, session: Connection) -> None:
    """Fails when the migration takes its locks in another order than a refresh does."""
    ask(session, "BEGIN; LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
    ask(session, "UPDATE usage_state SET as_of = now()")
    with in_thread(lambda: run("manage.py", "migrate", DATABASE_URL=database)) as migrating:
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
        wait_until(lambda: ask(session, waits), seconds=60, what="the migration to wait")
        ask(
            session,
            "INSERT INTO usage_refreshrun"
            " (trigger, status, started_at, keys_repaired, days_sealed, phases, error)"
            " VALUES ('command', 'success', now(), 0, 0, '{}', '')",
        )
        ask(
            session,
            "UPDATE usage_voiceusagerecord SET price = 1; UPDATE usage_datausagerecord"
            " SET price = 1 WHERE usage_date > current_date; COMMIT",
        )
        migrated = migrating.result(120)
    assert migrated.returncode == 0, migrated.stderr
