"""Migrations up and down with data and readers, and dumps restored on another server."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg2
import pytest
from django.db.migrations.loader import MigrationLoader

from bin import place as places
from bin.embedded import PORT, SUPERUSER, PostgreSQL
from tests.connections import ask, wait_until
from tests.exact import Rows, plain_totals, totals_of
from tests.faults.installation import Installation, installed
from tests.faults.trials import Trials

WITH_HISTORY = "with_history"
# Data and voice records of today and of the days before.
WRITE = """
    INSERT INTO usage_subscription (external_id)
    SELECT 'line ' || number FROM generate_series(1, 30) AS numbers (number);
    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    SELECT id, now() - days * interval '17 hours', id * 0.01234567, id * days
    FROM usage_subscription, generate_series(0, 12) AS numbers (days);
    INSERT INTO usage_voiceusagerecord (subscription_id, usage_date, price, seconds_used)
    SELECT id, now() - days * interval '31 hours', -0.5 * days, 60 * days
    FROM usage_subscription, generate_series(0, 7) AS numbers (days)
"""
LATE = """
    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    SELECT id, now() - days * interval '4 days', 1.5, 10
    FROM usage_subscription, generate_series(0, 2) AS numbers (days);
    DELETE FROM usage_voiceusagerecord WHERE usage_date < now() - interval '8 days'
"""
READ = """
    SELECT count(*), sum(total_price), sum(total_usage), sum(record_count), max(last_usage_at)
    FROM usage_daily
"""
STATES = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == "usage")
NEWEST, FIRST_WITH_TOTALS, FIRST_WITH_SEALS = STATES[-1], "0002", "0004"


class Readers:
    """Sessions of the application that read the totals all the time during a migration."""

    def __init__(self, installation: Installation, database: str) -> None:
        self.reads = 0
        self.wrong: list[object] = []
        self._end = threading.Event()
        with installation.session(dbname=database) as session:
            self._expected = ask(session, READ)
        self._threads = [
            threading.Thread(target=self._read, args=(installation, database)) for _ in range(2)
        ]

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(60)

    def _read(self, installation: Installation, database: str) -> None:
        try:
            with installation.session(dbname=database) as session:
                while not self._end.is_set():
                    if (found := ask(session, READ)) != self._expected:
                        self.wrong.append(found)
                    self.reads += 1
                    time.sleep(0.005)
        except psycopg2.Error as error:
            self.wrong.append(error)


class Databases:
    """The databases of one server, each at one state of the migrations."""

    def __init__(self, installation: Installation, trials: Trials) -> None:
        self.installation, self.trials = installation, trials

    def address(self, database: str) -> str:
        address = self.installation.environment["DATABASE_URL"]
        return f"{address.rpartition('/')[0]}/{database}"

    def manage(self, database: str, *arguments: str) -> str:
        return self.installation.manage(*arguments, DATABASE_URL=self.address(database))

    @contextmanager
    def queries(self, database: str) -> Iterator[Callable[[str], Rows]]:
        with self.installation.session(dbname=database) as session:
            yield partial(ask, session)

    def make(self, database: str, template: str = "template0") -> None:
        with self.queries("postgres") as query:
            query(f"CREATE DATABASE {database} TEMPLATE {template}")

    def drop(self, database: str) -> None:
        with self.queries("postgres") as query:
            query(f"DROP DATABASE {database} WITH (FORCE)")

    def migrate(self, database: str, state: str) -> None:
        """Migrate to this state; meanwhile readers must see the same totals."""
        with self.queries(database) as query:
            has_totals = query("SELECT to_regclass('usage_daily') IS NOT NULL") == [(True,)]
        if not has_totals or state < FIRST_WITH_TOTALS:
            self.manage(database, "migrate", "usage", state)
            return
        with Readers(self.installation, database) as readers:
            self.manage(database, "migrate", "usage", state)
        assert readers.wrong == [], f"{database} on the way to {state}"
        self.trials.count("reads meanwhile", readers.reads)

    def assert_exact_after_refresh(self, database: str) -> None:
        self.manage(database, "refresh_usage")
        with self.queries(database) as query:
            expected = plain_totals(query)
            assert totals_of("usage_daily", query) == expected
            assert totals_of("usage_daily_live", query) == expected
        assert ": 0 keys and 0 totals of periods differ" in self.manage(database, "verify_usage")


def chosen(what: str, states: list[str], trials: Trials) -> Iterator[str]:
    """Yield each state; in the short form only one in the middle."""
    middle = states[len(states) // 2 :][:1]
    those = states if trials.full else middle
    for number in trials.of(what, short=1, full=len(states), minutes=8):
        yield those[number]


def test_every_state_goes_up_with_its_data(databases: Databases, trials: Trials) -> None:
    """A database of each state, filled by the means of that state, migrates to the newest.

    Fails when a migration empties the view, fills it with other totals, or makes a reader fail.
    """
    for state in chosen("states that went up", STATES, trials):
        database = f"made_{state[:4]}"
        databases.make(database)
        databases.manage(database, "migrate", "usage", state)
        with databases.queries(database) as query:
            query(WRITE)
            if state >= FIRST_WITH_TOTALS:
                query("REFRESH MATERIALIZED VIEW usage_daily_open")
                before = totals_of("usage_daily", query)
                assert before == plain_totals(query) != []
        databases.migrate(database, NEWEST)
        if state >= FIRST_WITH_TOTALS:
            with databases.queries(database) as query:
                assert totals_of("usage_daily", query) == before
        databases.manage(database, "migrate")
        databases.assert_exact_after_refresh(database)
        databases.drop(database)


@pytest.fixture(scope="module")
def databases(trials: Trials) -> Iterator[Databases]:
    """Yield the databases of a new server."""
    with installed() as installation:
        yield Databases(installation, trials)


@pytest.fixture(scope="module")
def with_history(databases: Databases) -> Databases:
    """Make a database of the newest state with sealed days, some of them repaired."""
    databases.make(WITH_HISTORY)
    databases.manage(WITH_HISTORY, "migrate")
    with databases.queries(WITH_HISTORY) as query:
        query(WRITE)

    def is_sealed() -> bool:
        databases.manage(WITH_HISTORY, "refresh_usage")
        with databases.queries(WITH_HISTORY) as query:
            return query("SELECT count(*) > 0 FROM usage_daily_sealed") == [(True,)]

    wait_until(is_sealed, seconds=120, what="days to be sealed")
    with databases.queries(WITH_HISTORY) as query:
        query(LATE)
        assert query("SELECT count(*) > 0 FROM usage_late_key") == [(True,)]
    databases.assert_exact_after_refresh(WITH_HISTORY)
    return databases


def test_every_state_can_be_migrated_back_to_and_forward_again(
    with_history: Databases, trials: Trials
) -> None:
    """Sealed totals stay the same, and records written at the older state are not lost.

    Fails when a migration in either direction loses sealed totals or late keys.
    """
    for state in chosen("states gone back to and left again", STATES[:-1], trials):
        database = f"back_{state[:4]}"
        with_history.make(database, WITH_HISTORY)
        with with_history.queries(database) as query:
            before = totals_of("usage_daily", query)
        for target in (state, NEWEST):
            with_history.migrate(database, target)
            if target >= FIRST_WITH_TOTALS:
                with with_history.queries(database) as query:
                    assert totals_of("usage_daily", query) == before
        with_history.manage(database, "migrate", "usage", state)
        with with_history.queries(database) as query:
            query(LATE)
        with_history.manage(database, "migrate")
        with_history.assert_exact_after_refresh(database)
        with_history.drop(database)


def test_going_back_refuses_to_lose_totals_without_raw_records(with_history: Databases) -> None:
    """Fails when a migration back drops the table with the totals of dropped days."""
    with_history.make("closed", WITH_HISTORY)
    with with_history.queries("closed") as query:
        # Now the raw records of some sealed days count as dropped.
        query("UPDATE usage_state SET raw_kept_from = current_date - 5")
        before = totals_of("usage_daily", query)
        with pytest.raises(AssertionError, match="going back would lose their totals"):
            with_history.manage("closed", "migrate", "usage", "0003")
        assert totals_of("usage_daily", query) == before
        assert query("SELECT count(*) > 0 FROM usage_daily_sealed") == [(True,)]


def test_a_dump_restored_elsewhere_gives_the_same_totals(
    with_history: Databases, trials: Trials, tmp_path: Path
) -> None:
    """Restores as docs/operations.md says, on another server, with changes after the last refresh.

    Fails when the dump lacks something that a refresh needs, or when a refresh trusts the fence of
    another server.
    """
    source = with_history.installation.database
    program(source, "pg_dump")
    with_history.make("dumped", WITH_HISTORY)
    with with_history.queries("dumped") as query:
        query(LATE)
        published, exact = totals_of("usage_daily", query), plain_totals(query)
        assert published != exact
    place = places.passing_place(places.server_account())
    other = PostgreSQL(place, place / "postgresql.log")
    try:
        other.start()
        roles, dump = tmp_path / "roles.sql", tmp_path / "usage.dump"
        run(source, "pg_dumpall", "--roles-only", "--file", roles)
        run(source, "pg_dump", "--format=custom", "--file", dump, "dumped")
        # Some of the roles exist already, so errors are ignored.
        run(other, "psql", "--quiet", "--file", roles, "usage")
        run(other, "createdb", "--owner=usage", "restored")
        run(
            other,
            "pg_restore",
            "--no-owner",
            "--role=usage",
            "--exit-on-error",
            "--dbname=restored",
            dump,
        )
        with psycopg2.connect(
            host=str(other.socket), port=PORT, user="usage", dbname="restored"
        ) as session:
            session.autocommit = True
            query = partial(ask, session)
            # At its end the restore fills the view from the records of the open days.
            ((sealed_before,),) = query("SELECT sealed_before FROM usage_state")
            sealed = [row for row in published if row[1] < sealed_before]
            restored = totals_of("usage_daily", query)
            assert [row for row in restored if row[1] < sealed_before] == sealed != []
            address = f"{other.url().rpartition('/')[0]}/restored"
            for command in (["refresh_usage"], ["check", "--database", "default"]):
                with_history.installation.manage(*command, DATABASE_URL=address)
            assert totals_of("usage_daily", query) == exact
            assert totals_of("usage_daily_live", query) == exact
        session.close()
        trials.count("dumps restored elsewhere")
    finally:
        other.stop()
        shutil.rmtree(place, ignore_errors=True)


def program(server: PostgreSQL, name: str) -> Path:
    """Return the path of a client program of the same version as the server."""
    found = server.programs / name
    if not found.exists():
        pytest.skip(f"there is no {found}: PostgreSQL's clients of this version aren't installed")
    return found


def run(server: PostgreSQL, name: str, *arguments: object) -> None:
    done = subprocess.run(
        [program(server, name), *map(str, arguments)],
        env={
            "PATH": os.defpath,
            "PGHOST": str(server.socket),
            "PGPORT": str(PORT),
            "PGUSER": SUPERUSER,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{name} exits {done.returncode}: {done.stderr}"
