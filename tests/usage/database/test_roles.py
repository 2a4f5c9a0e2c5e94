"""Each role, tested by logging in: it has the privileges listed here and no others."""

from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ON_CITUS, ask, run_sql, second_session
from tests.logins import login_in
from usage.database.roles import PRIVILEGES

# Letters of PostgreSQL: r SELECT, a INSERT, w UPDATE, d DELETE. The owner has all of them.
DECIDED = """
    relation                  usage_analyst  usage_writer  usage_web
    usage_accesstoken         -              -             arwd
    usage_accesstoken_id_seq  -              -             -
    usage_daily               r              -             r
    usage_daily_live          r              -             r
    usage_daily_open          r              -             -
    usage_daily_sealed        -              -             r
    usage_datausagerecord     -              arwd          r
    usage_freshness           r              -             -
    usage_import_turn         -              r             -
    usage_index_care          -              -             -
    usage_late_key            -              -             r
    usage_logging_before      -              -             r
    usage_monthly             r              -             -
    usage_period_total        -              -             r
    usage_raw_kept_from       -              -             r
    usage_record              -              r             r
    usage_refresh_lock        -              -             -
    usage_refreshrun          -              -             arw
    usage_refreshrun_id_seq   -              -             -
    usage_refreshtally        -              -             r
    usage_state               -              -             r
    usage_subscription        -              ar            r
    usage_subscription_id_seq -              -             -
    usage_type                r              -             r
    usage_voiceusagerecord    -              arwd          r
"""
HEADER, *ROWS = (line.split() for line in DECIDED.strip().splitlines())
ROLES = HEADER[1:]
DECISIONS = {name: dict(zip(ROLES, letters, strict=True)) for name, *letters in ROWS}

# The functions of ours that each role may call. Trigger functions cannot be called; all others run
# with the privileges of the caller.
PURE = {"usage_day", "usage_day_end", "usage_day_start", "usage_total_weight"}
CALLABLE = {
    "usage_analyst": PURE | {"usage_daily_open_touched_by"},
    "usage_writer": PURE | {"usage_totals_of_days", "usage_totals_of_key"},
    "usage_web": PURE | {"usage_daily_live_of", "usage_totals_of_days", "usage_totals_of_key"},
}
# Citus cannot plan this query over distributed records. It is not needed there: no key is late.
UNPLANNED = {"usage_totals_of_key"} if ON_CITUS else set()
CALLS = {
    "usage_close_days": "SELECT usage_close_days(NULL)",
    "usage_daily_live_of": "SELECT FROM usage_daily_live_of('{1}', '2026-11-01', '2026-11-02')",
    "usage_daily_open_touched_by": "SELECT FROM usage_daily_open_touched_by('1')",
    "usage_day": "SELECT usage_day(now())",
    "usage_day_end": "SELECT usage_day_end('2026-11-01')",
    "usage_day_start": "SELECT usage_day_start('2026-11-01')",
    "usage_refresh_daily_open": "SELECT usage_refresh_daily_open()",
    "usage_total_weight": "SELECT usage_total_weight(1, '2026-11-01', 'data')",
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
WHERE
    relnamespace = 'public'::regnamespace
    AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
ORDER BY relname
"""


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest, state: None) -> str:
    """Run the test with each role."""
    return str(request.param)


@pytest.fixture
def session(role: str) -> Iterator[Connection]:
    """Open a session of a login in the role."""
    with login_in(role) as login, second_session(user=login) as theirs:
        yield theirs


def decided(relation: str, role: str, *, is_partition: bool) -> str:
    """Return the letters of the privileges of a role on a relation; fail if none are listed."""
    if is_partition or relation.startswith("django_migrations"):
        return "-"
    if relation.startswith("usage_"):
        assert relation in DECISIONS, (
            f"List the privileges of each role on {relation} in usage/database/roles.py and here."
        )
        return DECISIONS[relation][role]
    return "arwd" if role == "usage_web" and not relation.endswith("_id_seq") else "-"


def refusal(session: Connection, statement: str) -> str:
    """Return the error of a statement, or "" if it succeeded."""
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


def test_every_role_is_tried() -> None:
    assert set(ROLES) == set(PRIVILEGES)


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
        " AND has_column_privilege(attrelid, attname, privilege)"
        " ORDER BY 1, 2, 3",
    )
    assert columns == [
        (relation, column, "UPDATE")
        for relation, column in {
            "usage_writer": [
                ("usage_import_turn", "taken_at"),
                ("usage_subscription", "created_at"),
            ],
            "usage_web": [("usage_subscription", "owner_id")],
        }.get(role, [])
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
        if name in UNPLANNED:
            continue
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
        pytest.param(
            "CREATE TEMPORARY TABLE of_a_test (day date);"
            " CREATE TRIGGER of_a_test AFTER INSERT ON of_a_test"
            " EXECUTE FUNCTION usage_log_late_keys('data')",
            marks=pytest.mark.one_server("it refuses triggers"),
        ),
    ],
)
def test_role_changes_nothing_else(session: Connection, statement: str) -> None:
    assert is_denied(refusal(session, statement)), statement


@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES)
def test_role_cannot_log_in_and_has_no_special_attribute(role: str) -> None:
    assert run_sql(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        " FROM pg_roles WHERE rolname = %s",
        [role],
    ) == [(False,) * 6]
    assert run_sql("SELECT roleid FROM pg_auth_members WHERE member = %s::regrole", [role]) == []
