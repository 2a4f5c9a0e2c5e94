"""The role usage_analyst reads the daily totals and nothing else."""

import pytest
from django.db import DatabaseError, connection, transaction

from tests.connections import ask, run_sql, second_session
from tests.factories import data_record, make_subscription
from usage import sql

READABLE = {"usage_daily", "usage_daily_live", "usage_daily_open"}


@pytest.fixture
def as_analyst(db: None) -> None:
    """A session that acts as usage_analyst over one total; both end with the test."""
    data_record(make_subscription(), "2026-11-01T10:00:00Z", "1.25", 10)
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open")
    run_sql("GRANT usage_analyst TO CURRENT_USER")
    run_sql("SET LOCAL ROLE usage_analyst")


def refusal_of(statement: str) -> str:
    with pytest.raises(DatabaseError) as refused, transaction.atomic():
        run_sql(statement)
    return str(refused.value)


@pytest.mark.usefixtures("as_analyst")
@pytest.mark.parametrize("relation", sorted(READABLE))
def test_analyst_reads_totals(relation: str) -> None:
    assert run_sql(f"SELECT day::text, usage_type, total_price::text FROM {relation}") == [
        ("2026-11-01", "data", "1.25")
    ]


@pytest.mark.usefixtures("as_analyst")
def test_analyst_reads_no_other_relation() -> None:
    relations = {
        name
        for (name,) in run_sql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p', 'v', 'm')"
        )
    }
    assert relations >= READABLE | {"auth_user", "authtoken_token", "usage_datausagerecord_default"}
    for relation in relations - READABLE:
        assert "permission denied" in refusal_of(f'SELECT FROM "{relation}"'), relation


@pytest.mark.usefixtures("as_analyst")
def test_analyst_has_no_right_but_to_select() -> None:
    assert (
        run_sql(
            "SELECT relname, privilege FROM pg_class, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE',"
            " 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privileges (privilege)"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
            " AND has_table_privilege(oid, privilege)"
        )
        == []
    )
    assert (
        run_sql(
            "SELECT seqrelid::regclass FROM pg_sequence"
            " WHERE has_sequence_privilege(seqrelid, 'SELECT, UPDATE, USAGE')"
        )
        == []
    )


@pytest.mark.usefixtures("as_analyst")
@pytest.mark.parametrize(
    "statement",
    [
        "REFRESH MATERIALIZED VIEW usage_daily_open",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open",
        "DROP VIEW usage_daily",
        "CREATE TABLE of_an_analyst ()",
        "CREATE OR REPLACE VIEW usage_daily AS SELECT 1",
        "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE",
        "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
        " VALUES (1, now(), 1)",
        "TRUNCATE usage_datausagerecord",
        "UPDATE usage_state SET as_of = now()",
        "CREATE ROLE another",
    ],
)
def test_analyst_changes_nothing(statement: str) -> None:
    refused = refusal_of(statement)
    assert "permission denied" in refused or "must be owner" in refused


@pytest.mark.django_db
def test_role_cannot_log_in_and_is_nobody_of_importance() -> None:
    assert run_sql(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        " FROM pg_roles WHERE rolname = 'usage_analyst'"
    ) == [(False,) * 6]


@pytest.mark.django_db
def test_file_says_so_where_the_role_may_not_be_made() -> None:
    """Where the migrating user may not make roles; here under a name that no role has."""
    script = sql.read("usage_analyst", 1).replace("usage_analyst", "usage_analyst_of_nobody")
    with second_session() as session:
        ask(session, "CREATE ROLE usage_migrator_of_a_test NOCREATEROLE")
        ask(session, "GRANT usage_migrator_of_a_test TO CURRENT_USER")
        ask(session, "SET LOCAL ROLE usage_migrator_of_a_test")
        ask(session, script)
        [warning] = session.notices
    assert "WARNING:  role usage_analyst_of_nobody is missing" in warning
    assert "CREATE ROLE usage_analyst_of_nobody NOLOGIN" in warning


@pytest.mark.django_db
def test_check_prints_the_grants_that_are_missing() -> None:
    from usage.checks import analysts_can_read

    assert analysts_can_read(["default"]) == []
    with connection.cursor() as cursor:
        cursor.execute("REVOKE SELECT ON usage_daily FROM usage_analyst")
    [warning] = analysts_can_read(["default"])
    assert warning.hint == "Run: GRANT SELECT ON usage_daily TO usage_analyst;"
    assert analysts_can_read(None) == []
