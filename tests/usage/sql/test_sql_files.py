"""Every SQL file is applied by one migration, describes itself, and can be reverted."""

import re
from pathlib import Path

import pytest
from django.db.migrations.loader import MigrationLoader

from tests.connections import ask, run_sql, second_session
from tests.processes import database_url, run, scratch_database
from usage import sql

FILES = sorted(Path(sql.__file__).parent.glob("*.sql"))
NAME_OF_FILE = re.compile(r"(?P<name>[a-z_]+)_v(?P<version>\d\d)\.sql")

# Our relations and functions, without partitions and objects that belong to a table.
OURS = """
SELECT pg_class.oid, 'pg_class'::regclass AS catalogue, relname AS name
FROM pg_class
WHERE
    relnamespace = 'public'::regnamespace
    AND relname LIKE 'usage\\_%%'
    AND relkind IN ('r', 'p', 'v', 'm')
    AND NOT relispartition
UNION ALL
SELECT pg_proc.oid, 'pg_proc'::regclass, proname
FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'usage\\_%%'
"""

SHAPE = """
SELECT 'column', attrelid::regclass::text, attname, format_type(atttypid, atttypmod)
FROM pg_attribute
WHERE
    attnum > 0 AND NOT attisdropped
    AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
UNION ALL
SELECT 'index', indexname, indexdef, '' FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'function', oid::regprocedure::text, prosrc, ''
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'constraint', conname, pg_get_constraintdef(oid), ''
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'trigger', tgname, pg_get_triggerdef(oid), tgenabled::text
FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'view', viewname, definition, '' FROM pg_views WHERE schemaname = 'public'
UNION ALL
SELECT 'materialized view', matviewname, definition, ''
FROM pg_matviews WHERE schemaname = 'public'
ORDER BY 1, 2, 3, 4
"""


def applied_objects() -> list[tuple[str, int]]:
    """Return name and version of every SQL file, in the order of the migrations."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    plan = loader.graph._generate_plan(loader.graph.leaf_nodes(), at_end=True)
    return [
        applied
        for key in plan
        if key[0] == "usage"
        for operation in loader.disk_migrations[key].operations
        for applied in getattr(operation, "objects", [])
    ]


def test_every_file_is_brought_in_by_exactly_one_migration() -> None:
    applied = [f"{name}_v{version:02d}.sql" for name, version in applied_objects()]
    assert sorted(applied) == [file.name for file in FILES]


def test_versions_of_an_object_follow_each_other() -> None:
    latest: dict[str, int] = {}
    for name, version in applied_objects():
        assert version == latest.get(name, 0) + 1, name
        latest[name] = version


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_begins_with_a_header_of_three_lines(file: Path) -> None:
    found = NAME_OF_FILE.fullmatch(file.name)
    assert found is not None
    text = file.read_text()
    header = text.splitlines()[:3]
    assert all(re.match(r"-- \S", line) for line in header), header
    assert found["name"] in text.partition("\n\n")[2], "the object is not the one of the name"
    assert "CASCADE" not in text.upper()


@pytest.mark.django_db
def test_every_relation_column_and_function_has_a_comment() -> None:
    without = run_sql(
        f"WITH ours AS ({OURS})"
        " SELECT name, NULL FROM ours WHERE obj_description(oid, catalogue::text) IS NULL"
        " UNION ALL SELECT name, attname FROM ours INNER JOIN pg_attribute ON attrelid = ours.oid"
        " WHERE catalogue = 'pg_class'::regclass AND attnum > 0 AND NOT attisdropped"
        " AND col_description(attrelid, attnum) IS NULL"
    )
    assert without == []
    assert len(run_sql(OURS)) >= 12


@pytest.mark.django_db
def test_every_file_runs_as_it_stands() -> None:
    """The scripts run one after the other in a database without Django."""
    with scratch_database() as name, second_session(dbname=name, autocommit=True) as session:
        ask(session, "CREATE TABLE usage_subscription (id bigint PRIMARY KEY)")
        ask(
            session,
            "CREATE TABLE usage_state (as_of timestamptz, sealed_before date, raw_kept_from date,"
            " time_zone text, open_digest numeric); INSERT INTO usage_state DEFAULT VALUES;"
            " CREATE TABLE usage_refreshrun (status text, started_at timestamptz,"
            " finished_at timestamptz)",
        )
        applied = applied_objects()
        latest = dict(applied)
        for object_name, version in applied:
            if version == latest[object_name]:
                ask(session, sql.read(object_name, version))
        assert ask(session, "SELECT count(*) FROM usage_daily") == [(0,)]


@pytest.mark.django_db
@pytest.mark.one_server("going back needs triggers, which it refuses")
def test_migrations_go_back_to_nothing_and_forward_again() -> None:
    with scratch_database() as name:
        url = database_url(name)
        assert run("manage.py", "migrate", DATABASE_URL=url).returncode == 0
        with second_session(dbname=name, autocommit=True) as session:
            before = ask(session, SHAPE)
            ask(
                session,
                "INSERT INTO usage_subscription (external_id) VALUES ('A');"
                " INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
                " SELECT id, now(), 1 FROM usage_subscription",
            )
            assert run("manage.py", "make_partitions", DATABASE_URL=url).returncode == 0
            assert run("manage.py", "refresh_usage", DATABASE_URL=url).returncode == 0
            back = run("manage.py", "migrate", "usage", "zero", DATABASE_URL=url)
            assert back.returncode == 0, back.stderr
            assert ask(session, OURS.replace("%%", "%")) == []
            forward = run("manage.py", "migrate", DATABASE_URL=url)
            assert forward.returncode == 0, forward.stderr
            assert ask(session, SHAPE) == before
            assert ask(session, "SELECT count(*) FROM usage_daily") == [(0,)]
            assert ask(session, "SELECT count(*) FROM usage_state WHERE as_of IS NOT NULL") == [
                (1,)
            ]


@pytest.mark.django_db
@pytest.mark.one_server("going back needs triggers, which it refuses")
def test_going_back_stops_at_a_view_of_an_analyst_and_names_it() -> None:
    with scratch_database() as name:
        url = database_url(name)
        assert run("manage.py", "migrate", DATABASE_URL=url).returncode == 0
        with second_session(dbname=name, autocommit=True) as session:
            ask(session, "CREATE VIEW of_an_analyst AS SELECT day FROM usage_daily")
            back = run("manage.py", "migrate", "usage", "zero", DATABASE_URL=url)
            assert back.returncode != 0
            assert "of_an_analyst" in back.stderr
            assert ask(session, "SELECT FROM of_an_analyst") == []


@pytest.mark.django_db
def test_days_of_a_database_keep_the_zone_of_its_first_migrate(tmp_path: Path) -> None:
    with scratch_database() as name:
        london = {"DATABASE_URL": database_url(name), "USAGE_TIME_ZONE": "Europe/London"}
        assert run("manage.py", "migrate", **london).returncode == 0
        with second_session(dbname=name, autocommit=True) as session:
            assert ask(session, "SELECT time_zone FROM usage_state") == [("Europe/London",)]
            assert ask(
                session,
                "SELECT usage_day('2026-07-01 23:00+00')::text,"
                " usage_day_start('2026-07-02') = '2026-07-01 23:00+00'",
            ) == [("2026-07-02", True)]
        assert run("manage.py", "check", "--database", "default", **london).returncode == 0
        paris = {**london, "USAGE_TIME_ZONE": "Europe/Paris"}
        celery = ["-m", "celery", "-A", "worker.app"]
        for arguments in [
            ["manage.py", "check", "--database", "default"],
            ["manage.py", "refresh_usage"],
            ["-c", "import config.wsgi"],
            [*celery, "worker"],
            [*celery, "beat", "--schedule", str(tmp_path / "schedule")],
        ]:
            refused = run(*arguments, **paris)
            output = refused.stdout + refused.stderr
            assert refused.returncode != 0, arguments
            assert "USAGE_TIME_ZONE is Europe/Paris" in output, arguments
            assert "Europe/London" in output, arguments


@pytest.mark.django_db
def test_late_keys_of_a_new_database_are_those_of_its_first_migrate(tmp_path: Path) -> None:
    """Fails when a process starts with another late keys mode than that of the database, and when a
    reverted migration leaves the raw tables without triggers."""
    with scratch_database() as name:
        window = {"DATABASE_URL": database_url(name), "USAGE_LATE_KEYS": "window"}
        assert run("manage.py", "migrate", **window).returncode == 0
        with second_session(dbname=name, autocommit=True) as session:
            assert ask(session, "SELECT late_keys FROM usage_state") == [("window",)]
            assert ask(
                session,
                "SELECT count(*) FROM pg_trigger"
                " WHERE tgname LIKE 'usage_log_%' AND tgparentid = 0",
            ) == [(6,)]
        assert run("manage.py", "refresh_usage", **window).returncode == 0
        triggers = {**window, "USAGE_LATE_KEYS": "triggers"}
        for arguments in [
            ["manage.py", "check", "--database", "default"],
            ["manage.py", "refresh_usage"],
            ["-c", "import config.wsgi"],
        ]:
            refused = run(*arguments, **triggers)
            assert refused.returncode != 0, arguments
            assert "manage.py switch_late_keys" in refused.stdout + refused.stderr, arguments
        back = run("manage.py", "migrate", "usage", "0010", **window)
        assert "switch_late_keys first" in back.stderr
        # The migrations above are reverted, and the command needs them.
        assert run("manage.py", "migrate", **window).returncode == 0
        assert run("manage.py", "switch_late_keys", **triggers).returncode == 0
        assert run("manage.py", "migrate", "usage", "0010", **triggers).returncode == 0
        again = run("manage.py", "migrate", **window)
        assert again.returncode == 0, again.stderr
