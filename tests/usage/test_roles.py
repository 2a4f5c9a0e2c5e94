"""Each role, tried by logging in: it does what it is for and is denied everything else."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psycopg2
import pytest
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connection
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named
from rest_framework.test import APIClient

from tests.connections import ask, run_sql, second_session
from tests.factories import data_record, make_subscription, refresh_totals
from tests.given import given
from tests.logins import django_as, login_in
from tests.usage.importing import counts, imported, write_records
from usage import sql
from usage.checks import analysts_have_a_time_limit, roles_have_their_privileges
from usage.models import DataUsageRecord, Subscription
from usage.services.roles import PRIVILEGES, grant_missing, missing_grants

# As PostgreSQL writes privileges: r SELECT, a INSERT, w UPDATE, d DELETE; the owner has them all.
DECIDED = """
    relation                  usage_analyst  usage_writer  usage_web
    usage_daily               r              -             r
    usage_daily_live          r              -             r
    usage_daily_open          r              -             -
    usage_daily_sealed        -              -             r
    usage_datausagerecord     -              arwd          r
    usage_freshness           r              -             -
    usage_late_key            -              -             r
    usage_logging_before      -              -             -
    usage_monthly             r              -             -
    usage_period_total        -              -             r
    usage_raw_kept_from       -              -             -
    usage_refresh_lock        -              -             -
    usage_refreshrun          -              -             r
    usage_refreshrun_id_seq   -              -             -
    usage_refreshtally        -              -             r
    usage_state               -              -             r
    usage_subscription        -              ar            r
    usage_subscription_id_seq -              -             -
    usage_voiceusagerecord    -              arwd          r
"""
HEADER, *ROWS = (line.split() for line in DECIDED.strip().splitlines())
ROLES = HEADER[1:]
DECISIONS = {name: dict(zip(ROLES, letters, strict=True)) for name, *letters in ROWS}

# What each role may call, beside what PostgreSQL lets everybody call. Trigger functions can't be
# called; the others run with the rights of the caller.
PURE = {"usage_day", "usage_day_end", "usage_day_start"}
CALLABLE = {
    "usage_analyst": PURE | {"usage_daily_open_touched_by"},
    "usage_writer": PURE | {"usage_totals_of_days", "usage_totals_of_key"},
    "usage_web": PURE | {"usage_daily_live_of", "usage_totals_of_days", "usage_totals_of_key"},
}
CALLS = {
    "usage_daily_live_of": "SELECT FROM usage_daily_live_of('{1}', '2026-11-01', '2026-11-02')",
    "usage_daily_open_touched_by": "SELECT FROM usage_daily_open_touched_by('1')",
    "usage_day": "SELECT usage_day(now())",
    "usage_day_end": "SELECT usage_day_end('2026-11-01')",
    "usage_day_start": "SELECT usage_day_start('2026-11-01')",
    "usage_refresh_daily_open": "SELECT usage_refresh_daily_open()",
    "usage_totals_of_days": "SELECT FROM usage_totals_of_days('2026-11-01', '2026-11-02')",
    "usage_totals_of_key": "SELECT FROM usage_totals_of_key(1, '2026-11-01', 'data')",
}

LETTERS = {"SELECT": "r", "INSERT": "a", "UPDATE": "w", "DELETE": "d"}
TRIES = {
    "a": "INSERT INTO {relation} DEFAULT VALUES",
    "r": "SELECT FROM {relation}",
    "w": "UPDATE {relation} SET {column} = NULL",
    "d": "DELETE FROM {relation}",
    "TRUNCATE": "TRUNCATE {relation}",
    "INDEX": "CREATE INDEX ON {relation} ({column})",
    "TRIGGER": "CREATE TRIGGER of_a_test AFTER INSERT ON {relation}"
    " EXECUTE FUNCTION usage_log_late_keys('data')",
    "DROP": "DROP TABLE {relation}",
}

RELATIONS = """
SELECT
    relname,
    relkind,
    relispartition,
    (SELECT attname FROM pg_attribute WHERE attrelid = pg_class.oid AND attnum = 1),
    (
        SELECT coalesce(string_agg(privilege, ' ' ORDER BY privilege), '')
        FROM unnest(
            CASE relkind
                WHEN 'S' THEN ARRAY['SELECT', 'UPDATE', 'USAGE']
                ELSE ARRAY[
                    'SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'
                ]
            END
        ) AS privileges (privilege)
        WHERE CASE relkind
            WHEN 'S' THEN has_sequence_privilege(pg_class.oid, privilege)
            ELSE has_table_privilege(pg_class.oid, privilege)
        END
    )
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
ORDER BY relname
"""


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest, state: None) -> str:
    """Each role in turn."""
    return str(request.param)


@pytest.fixture
def session(role: str) -> Iterator[Connection]:
    """A session of a login in the role."""
    with login_in(role) as login, second_session(user=login) as theirs:
        yield theirs


def decided(relation: str, role: str, *, is_partition: bool) -> str:
    """The letters of what a role may do with a relation; fails where nobody has decided."""
    if is_partition or relation.startswith("django_migrations"):
        return "-"
    if relation.startswith("usage_"):
        assert relation in DECISIONS, (
            f"Decide in usage/services/roles.py and here who may do what with {relation}."
        )
        return DECISIONS[relation][role]
    return "arwd" if role == "usage_web" and not relation.endswith("_id_seq") else "-"


def refusal(session: Connection, statement: str) -> str:
    """How the server refused a statement; empty when it did not."""
    ask(session, "SAVEPOINT before_it")
    try:
        ask(session, statement)
    except psycopg2.Error as error:
        return str(error).splitlines()[0]
    else:
        return ""
    finally:
        ask(session, "ROLLBACK TO SAVEPOINT before_it")


def is_denied(refused: str) -> bool:
    return "permission denied" in refused or "must be owner" in refused


def test_role_has_the_privileges_decided_and_no_other(session: Connection, role: str) -> None:
    relations = ask(session, RELATIONS)
    assert {"auth_user", "django_migrations", *DECISIONS} <= {name for name, *_ in relations}
    for relation, _, is_partition, _, privileges in relations:
        letters = {LETTERS.get(word, word) for word in privileges.split()}
        expected = decided(relation, role, is_partition=is_partition)
        assert letters == set(expected) - {"-"}, relation


def test_role_is_denied_every_other_statement(session: Connection, role: str) -> None:
    for relation, kind, is_partition, column, _ in ask(session, RELATIONS):
        allowed = decided(relation, role, is_partition=is_partition)
        for needed, statement in TRIES.items():
            if needed in allowed or (kind not in "rp" and needed != "r"):
                continue
            refused = refusal(session, statement.format(relation=relation, column=column))
            assert is_denied(refused), (relation, needed, refused)


def test_role_has_the_columns_decided_and_no_other(session: Connection, role: str) -> None:
    columns = ask(
        session,
        "SELECT attrelid::regclass::text, attname, privilege"
        " FROM pg_attribute INNER JOIN pg_class ON pg_class.oid = attrelid,"
        " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS privileges (privilege)"
        " WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped"
        " AND relkind IN ('r', 'p', 'v', 'm') AND NOT has_table_privilege(attrelid, privilege)"
        " AND has_column_privilege(attrelid, attname, privilege)",
    )
    assert columns == [
        ("usage_subscription", column, "UPDATE")
        for column in {"usage_writer": ["created_at"], "usage_web": ["owner_id"]}.get(role, [])
    ]


def test_role_calls_what_it_needs(session: Connection, role: str) -> None:
    functions = {
        name
        for (name,) in ask(
            session,
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " AND proname LIKE 'usage\\_%' AND prorettype <> 'trigger'::regtype",
        )
    }
    assert functions == set(CALLS)
    for name, call in CALLS.items():
        refused = refusal(session, call)
        assert is_denied(refused) if name not in CALLABLE[role] else refused == "", (name, refused)


@pytest.mark.parametrize(
    "statement",
    [
        "REFRESH MATERIALIZED VIEW usage_daily_open",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open",
        "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE",
        "ALTER TABLE usage_datausagerecord DISABLE TRIGGER ALL",
        "ALTER TABLE usage_subscription ADD COLUMN of_a_test int",
        "SELECT setval('usage_logging_before', 1)",
        "CREATE TABLE of_a_test ()",
        "CREATE SCHEMA of_a_test",
        "CREATE OR REPLACE VIEW usage_daily AS SELECT 1",
        "CREATE ROLE of_a_test",
        "SET ROLE pg_read_all_data",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('postgresql.conf')",
        "CREATE TEMPORARY TABLE of_a_test (day date);"
        " CREATE TRIGGER of_a_test AFTER INSERT ON of_a_test"
        " EXECUTE FUNCTION usage_log_late_keys('data')",
    ],
)
def test_role_changes_nothing_else(session: Connection, statement: str) -> None:
    assert is_denied(refusal(session, statement)), statement


@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES)
def test_role_cannot_log_in_and_is_nobody_of_importance(role: str) -> None:
    assert run_sql(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        " FROM pg_roles WHERE rolname = %s",
        [role],
    ) == [(False,) * 6]
    assert run_sql("SELECT roleid FROM pg_auth_members WHERE member = %s::regrole", [role]) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "version"), [("usage_analyst", 2), ("usage_writer", 1), ("usage_web", 1)]
)
def test_file_says_so_where_the_role_may_not_be_made(name: str, version: int) -> None:
    """Where the migrating user may not make roles; here under a name that no role has."""
    script = sql.read(name, version).replace(name, f"{name}_of_nobody")
    with second_session() as session:
        ask(session, "CREATE ROLE usage_migrator_of_a_test NOCREATEROLE")
        ask(session, "GRANT usage_migrator_of_a_test TO CURRENT_USER")
        ask(session, "SET LOCAL ROLE usage_migrator_of_a_test")
        ask(session, script)
        [warning] = session.notices
    assert f"WARNING:  role {name}_of_nobody is missing" in warning
    assert f"CREATE ROLE {name}_of_nobody NOLOGIN" in warning


class TestWriter:
    @pytest.fixture(autouse=True)
    def as_writer(self, state: None) -> Iterator[None]:
        """Django's session is one of a login in usage_writer; A is a subscription with usage."""
        given("data  A  2026-11-01T10:00:00Z  1.25  10")
        self.owner = connection.settings_dict["USER"]
        with login_in("usage_writer") as login, django_as(login):
            yield

    def test_writes_records_through_the_orm(self) -> None:
        a = Subscription.objects.get(external_id="A")
        record = data_record(a, "2026-11-02T10:00:00Z", price="2", kilobytes=20)
        DataUsageRecord.objects.bulk_create(
            [DataUsageRecord(subscription=a, usage_date=record.usage_date, kilobytes_used=1)]
        )
        record.usage_date = datetime(2026, 11, 3, tzinfo=UTC)
        record.save()
        DataUsageRecord.objects.filter(kilobytes_used=1).delete()
        data_record(make_subscription("B"), "2026-11-04T10:00:00Z")
        assert list(
            DataUsageRecord.objects.order_by("usage_date").values_list(
                "subscription__external_id", "price"
            )
        ) == [("A", Decimal("1.25")), ("A", Decimal(2)), ("B", Decimal(0))]

    def test_imports_a_file(self, tmp_path: Path) -> None:
        path = write_records(
            tmp_path / "usage.csv",
            "data,A,2026-11-01T10:00:00Z,0.5,1,k1",
            "voice,new,2026-11-01T10:00:00Z,0.5,60,k2",
        )
        assert counts(imported(path)) == (2, 2, 0, 0)
        assert counts(imported(path)) == (2, 0, 2, 0)

    def test_late_changes_are_noted_in_a_log_it_cannot_read(self) -> None:
        with second_session(autocommit=True, user=self.owner) as owner:
            ask(owner, "SELECT setval('usage_logging_before', date '2026-11-05' - '1999-12-31')")
            DataUsageRecord.objects.update(price=3)
            assert ask(owner, "SELECT day::text, usage_type FROM usage_late_key") == [
                ("2026-11-01", "data"),
                ("2026-11-01", "data"),
            ]

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE usage_subscription SET external_id = 'B'",
            "UPDATE usage_subscription SET owner_id = NULL",
            "DELETE FROM usage_subscription",
        ],
    )
    def test_makes_subscriptions_and_leaves_them_as_they_are(self, statement: str) -> None:
        with pytest.raises(DatabaseError, match="permission denied for table usage_subscription"):
            run_sql(statement)


class TestWeb:
    @pytest.fixture(autouse=True)
    def as_web(self, state: None, client_with_token: APIClient) -> Iterator[None]:
        """Django's session is one of a login in usage_web, over one refreshed total."""
        given("data  A  2026-11-01T10:00:00Z  1.25  10")
        refresh_totals()
        self.client = client_with_token
        with login_in("usage_web") as login, django_as(login):
            yield

    @pytest.mark.parametrize(
        "question",
        [
            "usage/over-limit/?price_limit=1",
            "usage/over-limit/?price_limit=1&month=2026-11",
            "usage/over-limit/?price_limit=1&from_date=2026-11-01&to_date=2026-11-02",
            "usage/totals/?external_id=A",
            "usage/totals/?external_id=A&live=true",
            "usage/daily/?month=2026-11",
            "usage/daily/?external_id=A&live=true",
            "usage/daily/?format=csv",
            "usage/records/?subscription_id={id}&usage_type=data&day=2026-11-01",
            "subscriptions/?external_id=A",
        ],
    )
    def test_answers_every_question(self, question: str) -> None:
        pk = Subscription.objects.get(external_id="A").pk
        answer = self.client.get(f"/api/v1/{question.format(id=pk)}")
        assert answer.status_code == 200
        body = answer.getvalue()
        assert b"2026-11-01" in body or b"1.25" in body or b'"A"' in body

    def test_keeps_what_django_keeps(self) -> None:
        users = get_user_model().objects
        user = users.create_user("somebody", password="a password of a test")
        user.first_name = "Some"
        user.save()
        Subscription.objects.update(owner=user)
        assert users.get(username="somebody").first_name == "Some"
        user.delete()
        assert Subscription.objects.get().owner is None

    def test_changes_no_usage(self) -> None:
        with pytest.raises(DatabaseError, match="permission denied for table usage_data"):
            DataUsageRecord.objects.update(price=3)
        with pytest.raises(DatabaseError, match="permission denied for table usage_subscription"):
            make_subscription("B")


class TestGrants:
    """Each test is rolled back."""

    pytestmark = pytest.mark.django_db

    def test_nothing_is_missing_after_migrate(self) -> None:
        assert missing_grants() == []
        assert roles_have_their_privileges(["default"]) == []

    def test_decisions_are_those_that_are_granted(self) -> None:
        assert set(PRIVILEGES) == set(ROLES)

    def test_check_prints_the_grants_that_are_missing(self) -> None:
        run_sql("REVOKE SELECT ON usage_daily, usage_monthly FROM usage_analyst")
        run_sql("REVOKE DELETE ON auth_user FROM usage_web")
        run_sql("REVOKE UPDATE (created_at) ON usage_subscription FROM usage_writer")
        hints = [warning.hint for warning in roles_have_their_privileges(["default"])]
        assert hints == [
            "Run: GRANT SELECT ON usage_daily, usage_monthly TO usage_analyst;",
            "Run: GRANT SELECT, INSERT, UPDATE, DELETE ON auth_user TO usage_web;",
            "Run: GRANT SELECT, INSERT, UPDATE (created_at) ON usage_subscription TO usage_writer;",
        ]
        assert roles_have_their_privileges(None) == []

    def test_check_prints_how_to_make_a_role_that_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(PRIVILEGES, "usage_nobody", {"usage_daily": "SELECT"})
        [warning] = roles_have_their_privileges(["default"])
        assert warning.msg == "The role usage_nobody is missing for usage_daily."
        assert warning.hint == (
            "Run: CREATE ROLE usage_nobody NOLOGIN; GRANT SELECT ON usage_daily TO usage_nobody;"
        )
        grant_missing()  # has nobody to grant to

    def test_migrate_grants_what_is_missing(self) -> None:
        run_sql("REVOKE ALL ON auth_user, usage_state FROM usage_web")
        assert len(missing_grants()) == 2
        grant_missing()
        assert missing_grants() == []


class TestTimeLimit:
    def test_check_names_logins_of_analysts_without_one(self, state: None) -> None:
        with login_in("usage_analyst") as login:
            limit = f"ALTER ROLE {login} SET statement_timeout = '60s'"
            hints = [warning.hint for warning in analysts_have_a_time_limit(["default"])]
            assert f"Run: {limit};" in hints
            run_sql(limit)
            hints = [warning.hint for warning in analysts_have_a_time_limit(["default"])]
            assert f"Run: {limit};" not in hints
            assert analysts_have_a_time_limit(None) == []
            with second_session(user=login) as session:
                assert ask(session, "SHOW statement_timeout") == [("1min",)]
