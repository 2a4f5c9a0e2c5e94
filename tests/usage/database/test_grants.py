"""Roles: migrate creates them and grants privileges, and checks name those that are missing."""

import pytest

from tests.connections import ask, run_sql, second_session
from tests.logins import login_in
from usage import sql
from usage.checks import analysts_have_a_time_limit, roles_have_their_privileges
from usage.database.roles import PRIVILEGES, grant_missing, missing_grants


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["usage_record", "usage_type"])
def test_web_processes_that_are_running_may_read_what_a_migration_makes(name: str) -> None:
    """Fails when only the end of migrate grants it: live totals of late keys fail until then."""
    script = sql.read(name, 1)
    with second_session() as session:
        ask(session, "CREATE SCHEMA of_a_test; SET LOCAL search_path = of_a_test, public")
        ask(session, script)
        assert ask(
            session, f"SELECT has_table_privilege('usage_web', 'of_a_test.{name}', 'SELECT')"
        ) == [(True,)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "version"), [("usage_analyst", 2), ("usage_writer", 1), ("usage_web", 1)]
)
def test_file_warns_when_it_may_not_create_the_role(name: str, version: int) -> None:
    """The migrating user here lacks CREATEROLE, and the name is one that no role has."""
    script = sql.read(name, version).replace(name, f"{name}_of_nobody")
    with second_session() as session:
        ask(session, "CREATE ROLE usage_migrator_of_a_test NOCREATEROLE")
        ask(session, "GRANT usage_migrator_of_a_test TO CURRENT_USER")
        ask(session, "SET LOCAL ROLE usage_migrator_of_a_test")
        ask(session, script)
        [warning] = session.notices
    assert f"WARNING:  role {name}_of_nobody is missing" in warning
    assert f"CREATE ROLE {name}_of_nobody NOLOGIN" in warning


class TestGrants:
    """Tests whose changes are rolled back."""

    pytestmark = pytest.mark.django_db

    def test_nothing_is_missing_after_migrate(self) -> None:
        assert missing_grants() == []
        assert roles_have_their_privileges(["default"]) == []

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

    def test_check_prints_how_to_create_a_role_that_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(PRIVILEGES, "usage_nobody", {"usage_daily": "SELECT"})
        [warning] = roles_have_their_privileges(["default"])
        assert warning.msg == "The role usage_nobody is missing for usage_daily."
        assert warning.hint == (
            "Run: CREATE ROLE usage_nobody NOLOGIN; GRANT SELECT ON usage_daily TO usage_nobody;"
        )
        grant_missing()  # does not fail, although the role is missing

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
