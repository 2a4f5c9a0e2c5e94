"""Views and what they read are replaced while readers and writers continue."""

from functools import partial

import pytest

from tests.connections import ask, in_thread, second_session, wait_until
from tests.processes import database_url, run, scratch_database

WAITING = """
    SELECT count(*) FROM pg_locks INNER JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND NOT granted
"""


@pytest.mark.django_db
def test_a_reader_that_began_before_the_swap_reads_on() -> None:
    """The reader locks the view, and the materialized view only when the migration waits. Fails
    with a deadlock when the migration locks them in the opposite order."""
    with scratch_database() as name:
        url = database_url(name)
        assert run("manage.py", "migrate", "usage", "0003", DATABASE_URL=url).returncode == 0
        with (
            second_session(dbname=name) as reader,
            second_session(dbname=name, autocommit=True) as watcher,
        ):
            ask(reader, "LOCK TABLE usage_daily IN ACCESS SHARE MODE")
            with in_thread(lambda: run("manage.py", "migrate", DATABASE_URL=url)) as migrating:
                wait_until(
                    lambda: ask(watcher, WAITING) != [(0,)],
                    seconds=60,
                    what="the migration to wait for the reader",
                )
                assert ask(reader, "SELECT count(*) FROM usage_daily") == [(0,)]
                reader.commit()
                migrated = migrating.result()
            assert migrated.returncode == 0, migrated.stderr
            assert ask(reader, "SELECT count(*) FROM usage_daily") == [(0,)]


@pytest.mark.django_db
@pytest.mark.one_server("the release before can't be migrated to there")
def test_a_writer_that_has_locked_its_subscription_writes_on() -> None:
    """Fails when the migration holds the raw tables while it waits for usage_subscription: it then
    gives up, and on a busy database each time."""
    with scratch_database() as name:
        url = database_url(name)
        assert run("manage.py", "migrate", "usage", "0017", DATABASE_URL=url).returncode == 0
        with (
            second_session(dbname=name) as writer,
            second_session(dbname=name, autocommit=True) as watcher,
        ):
            ask(watcher, "INSERT INTO usage_subscription (external_id) VALUES ('a')")
            for target in ("0018", "0017"):
                ask(writer, "SELECT FROM usage_subscription FOR KEY SHARE")
                migrate = partial(run, "manage.py", "migrate", "usage", target, DATABASE_URL=url)
                with in_thread(migrate) as migrating:
                    wait_until(
                        lambda: ask(watcher, WAITING) != [(0,)],
                        seconds=60,
                        what="the migration to wait for the writer",
                    )
                    ask(
                        writer,
                        "INSERT INTO usage_datausagerecord"
                        " (subscription_id, usage_date, kilobytes_used)"
                        " SELECT id, now(), 1 FROM usage_subscription",
                    )
                    writer.commit()
                    migrated = migrating.result()
                assert migrated.returncode == 0, migrated.stderr
            assert ask(watcher, "SELECT count(*) FROM usage_datausagerecord") == [(2,)]
