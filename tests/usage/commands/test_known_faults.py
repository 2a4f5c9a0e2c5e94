"""Errors with a known cause: the command names the cause in one line, and not DATABASE_URL."""

from collections.abc import Iterator
from io import StringIO

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connection

from tests.connections import ask, run_sql, second_session
from tests.factories import make_subscription
from tests.logins import django_as, login_in
from tests.processes import database_url, run, scratch_database
from usage.services.raw import locks

pytestmark = pytest.mark.usefixtures("only_default_partitions")

WRITING = [
    "refresh_usage",
    "prune_usage",
    "make_partitions",
    "pause_refresh",
    "rebuild_usage --from 2026-11-01 --to 2026-11-02",
    "forget_subscription anna --yes",
    "reopen_days",
    "switch_late_keys",
    "generate_usage --subscriptions 1 --days 1 --records 10",
]


def fault(command: str) -> str:
    with pytest.raises(CommandError) as error:
        call_command(*command.split(), stdout=StringIO(), stderr=StringIO())
    text = str(error.value)
    assert "DATABASE_URL and that its server runs" not in text
    assert "Traceback" not in text
    assert "\n" not in text.strip()
    return text


@pytest.fixture
def read_only() -> Iterator[None]:
    make_subscription("anna")
    [(role,)] = run_sql("SELECT quote_ident(current_user)")
    run_sql(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    connection.close()
    yield
    run_sql("SET default_transaction_read_only = off")
    run_sql(f"ALTER ROLE {role} RESET default_transaction_read_only")
    connection.close()


@pytest.mark.parametrize("command", WRITING)
def test_a_read_only_database_is_named(
    command: str, read_only: None, settings: LazySettings
) -> None:
    if command == "switch_late_keys":
        settings.USAGE_LATE_KEYS = "window"
        settings.USAGE_OPEN_DAYS = settings.USAGE_RAW_RETENTION_DAYS = 35
    text = fault(command)
    assert "default_transaction_read_only is on (set by: user). Turn it off there." in text


@pytest.mark.one_server("it has triggers to switch to")
def test_a_prepared_transaction_that_blocks_switch_late_keys_is_named(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RAW_LOCK_SECONDS", 1)
    settings.USAGE_LATE_KEYS = "window"
    settings.USAGE_OPEN_DAYS = settings.USAGE_RAW_RETENTION_DAYS = 35
    with second_session(autocommit=True) as writer:
        ask(writer, "BEGIN")
        ask(
            writer,
            "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
            " VALUES (1, '2026-11-02', 1)",
        )
        ask(writer, "PREPARE TRANSACTION 'beside a switch'")
        try:
            text = fault("switch_late_keys")
        finally:
            ask(writer, "ROLLBACK PREPARED 'beside a switch'")
    assert "Held by: prepared transaction 'beside a switch'" in text
    assert "ROLLBACK PREPARED" in text


def test_a_login_without_the_privilege_gets_the_reason() -> None:
    with login_in("usage_web") as login, django_as(login):
        text = fault("prune_usage")
    assert "permission denied for" in text
    assert "docs/roles.md" in text


def test_a_statement_timeout_gets_the_reason() -> None:
    run_sql("SET statement_timeout = '1ms'")
    try:
        text = fault("generate_usage --subscriptions 100 --days 30 --records 100000")
    finally:
        run_sql("RESET statement_timeout")
    assert "raise statement_timeout of the role" in text


def test_a_database_of_another_encoding_is_refused_by_the_first_migrate() -> None:
    """Fails when only an import notices that the database can't store a name."""
    with second_session(autocommit=True, dbname="postgres") as session:
        ask(
            session,
            "CREATE DATABASE test_usage_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        )
        try:
            environment = {"DATABASE_URL": database_url("test_usage_latin1")}
            refused = run("manage.py", "migrate", **environment)
            assert refused.returncode != 0
            assert "The encoding of the database test_usage_latin1 is LATIN1" in refused.stderr
            assert "usage.E004" in refused.stderr
            made = run("manage.py", "migrate", "--skip-checks", **environment)
            assert made.returncode == 0, made.stderr
            warned = run("manage.py", "migrate", **environment)
            assert warned.returncode == 0
            assert "usage.W007" in warned.stderr
        finally:
            ask(session, "DROP DATABASE test_usage_latin1")
    with scratch_database() as name:
        checked = run(
            "manage.py", "check", "--database", "default", DATABASE_URL=database_url(name)
        )
        assert "usage.E004" not in checked.stderr
