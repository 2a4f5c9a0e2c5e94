"""Settings come from the environment, and an invalid one stops the start with its name."""

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.processes import ROOT, database_url, run

SECRET = "a secret of a test, which is long enough"
NEEDED = {
    "DATABASE_URL": "postgresql://somebody:pass%2Fword@db.example:5433/usage",
    "REDIS_URL": "redis://:password@broker.example:6380/2",
    "DJANGO_SECRET_KEY": SECRET,
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of production with the required variables alone; the test changes it."""
    for name in os.environ:
        if name.startswith(("DJANGO_", "USAGE_")):
            monkeypatch.delenv(name)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def read_settings() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "config" / "settings.py"))


@pytest.mark.usefixtures("environment")
def test_defaults_are_those_of_a_small_production() -> None:
    settings = read_settings()
    assert settings["DEBUG"] is False
    assert settings["ALLOWED_HOSTS"] == ["127.0.0.1", "localhost"]
    assert settings["USAGE_TIME_ZONE"] == "UTC"
    assert settings["USAGE_CURRENCY"] == "USD"
    assert settings["USAGE_REFRESH_SECONDS"] == 60
    assert settings["USAGE_MAX_AGE_SECONDS"] == 180
    assert settings["USAGE_REFRESH_TIMEOUT_SECONDS"] == 900
    assert settings["USAGE_OPEN_DAYS"] is None
    assert (settings["USE_TZ"], settings["TIME_ZONE"]) == (True, "UTC")
    assert settings["REDIS_URL"] == NEEDED["REDIS_URL"]
    database = settings["DATABASES"]["default"]
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert [database[part] for part in ["HOST", "PORT", "USER", "PASSWORD", "NAME"]] == [
        "db.example",
        5433,
        "somebody",
        "pass/word",
        "usage",
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DJANGO_DEBUG", "1", True),
        ("DJANGO_DEBUG", "off", False),
        ("DJANGO_ALLOWED_HOSTS", "a.example, b.example,", ["a.example", "b.example"]),
        ("USAGE_TIME_ZONE", "Atlantic/Azores", "Atlantic/Azores"),
        ("USAGE_CURRENCY", "EUR", "EUR"),
        ("USAGE_REFRESH_SECONDS", " 5 ", 5),
        ("USAGE_REFRESH_SECONDS", "", 60),
        ("USAGE_MAX_AGE_SECONDS", "604800", 604_800),
        ("USAGE_REFRESH_TIMEOUT_SECONDS", "1", 1),
        ("USAGE_OPEN_DAYS", "2", 2),
        ("USAGE_LATE_KEYS", "window", "window"),
    ],
)
def test_variable_sets_its_setting(
    environment: pytest.MonkeyPatch, name: str, value: str, expected: object
) -> None:
    environment.setenv(name, value)
    assert read_settings()[name.removeprefix("DJANGO_")] == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJANGO_DEBUG", "maybe"),
        ("DJANGO_SECRET_KEY", ""),
        ("DJANGO_SECRET_KEY", "short"),
        ("DJANGO_SECRET_KEY", "x" * 31),
        ("DJANGO_SECRET_KEY", "development-only-never-in-production"),
        ("DJANGO_ALLOWED_HOSTS", "*"),
        ("DJANGO_ALLOWED_HOSTS", "usage.example,*"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "usage"),
        ("DATABASE_URL", "http://usage.example"),
        ("DATABASE_URL", "postgresql://somebody:se/cret@host/usage"),
        ("DATABASE_URL", "postgresql://host:port/usage"),
        ("DATABASE_URL", "sqlite:///usage.sqlite3"),
        ("DATABASE_URL", "mysql://host/usage"),
        ("DATABASE_REPLICA_URL", "one.example"),
        ("DATABASE_REPLICA_URL", "postgresql://one.example/usage,mysql://two.example/usage"),
        ("DATABASE_DIRECT_URL", "http://usage.example"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "broker.example:6379"),
        ("REDIS_URL", "amqp://broker.example"),
        ("USAGE_TIME_ZONE", "London"),
        ("USAGE_TIME_ZONE", "UTC+1"),
        ("USAGE_TIME_ZONE", "europe/london"),
        ("USAGE_CURRENCY", "usd"),
        ("USAGE_CURRENCY", "US"),
        ("USAGE_CURRENCY", "$$$"),
        ("USAGE_REFRESH_SECONDS", "0"),
        ("USAGE_REFRESH_SECONDS", "1.5"),
        ("USAGE_REFRESH_SECONDS", "-1"),
        ("USAGE_REFRESH_SECONDS", "86401"),
        ("USAGE_REFRESH_SECONDS", "²"),
        ("USAGE_MAX_AGE_SECONDS", "an hour"),
        ("USAGE_MAX_AGE_SECONDS", "604801"),
        ("USAGE_REFRESH_TIMEOUT_SECONDS", "0"),
        ("USAGE_OPEN_DAYS", "0"),
        ("USAGE_OPEN_DAYS", "367"),
        ("USAGE_OPEN_DAYS", "two"),
        ("USAGE_LATE_KEYS", "Window"),
    ],
)
def test_bad_value_is_refused_by_name(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=name) as refused:
        read_settings()
    assert len(str(refused.value)) > len(name) + 20, "the message says what to do"


@pytest.mark.parametrize("name", ["USAGE_OPEN_DAYS", "USAGE_RAW_RETENTION_DAYS"])
def test_window_spans_every_day_with_raw_records(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv("USAGE_LATE_KEYS", "window")
    environment.setenv(name, "7")
    settings = read_settings()
    assert (settings["USAGE_OPEN_DAYS"], settings["USAGE_RAW_RETENTION_DAYS"]) == (7, 7)


def test_window_shorter_than_raw_records_are_kept_is_refused(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("USAGE_LATE_KEYS", "window")
    environment.setenv("USAGE_OPEN_DAYS", "7")
    environment.setenv("USAGE_RAW_RETENTION_DAYS", "8")
    with pytest.raises(ImproperlyConfigured, match=r"USAGE_OPEN_DAYS=7 .*DAYS=8 differ"):
        read_settings()


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_variable_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)
    with pytest.raises(ImproperlyConfigured, match=f"{name} is not set.*docs/settings.md"):
        read_settings()


def test_development_may_do_without_secret_and_hosts(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("DJANGO_SECRET_KEY")
    environment.setenv("DJANGO_DEBUG", "1")
    environment.setenv("DJANGO_ALLOWED_HOSTS", "*")
    settings = read_settings()
    assert settings["DEBUG"] is True
    assert settings["ALLOWED_HOSTS"] == ["*"]


def test_replicas_are_databases_that_tests_find_the_primary_in_place_of(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv(
        "DATABASE_REPLICA_URL", "postgresql://one.example/usage , postgresql://two.example/usage,"
    )
    databases = read_settings()["DATABASES"]
    assert [(alias, databases[alias]["HOST"]) for alias in databases] == [
        ("default", "db.example"),
        ("replica1", "one.example"),
        ("replica2", "two.example"),
    ]
    assert databases["replica1"]["TEST"] == {"MIRROR": "default"}


def test_a_direct_address_says_that_the_other_is_a_pool(environment: pytest.MonkeyPatch) -> None:
    assert read_settings()["DATABASE_POOL"] is None
    environment.setenv("DATABASE_DIRECT_URL", "postgresql://direct.example/usage")
    settings = read_settings()
    assert settings["DATABASES"]["default"]["HOST"] == "direct.example"
    assert settings["DATABASE_POOL"]["HOST"] == "db.example"


@pytest.mark.parametrize(
    "name", ["DATABASE_URL", "DATABASE_REPLICA_URL", "DATABASE_DIRECT_URL", "REDIS_URL"]
)
def test_password_is_not_repeated_in_a_message(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "nonsense://somebody:hunter2@host/usage")
    with pytest.raises(ImproperlyConfigured) as refused:
        read_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.usefixtures("environment")
def test_environment_is_read_in_one_place() -> None:
    readers = [
        file.relative_to(ROOT).as_posix()
        for folder in ["config", "usage", "worker"]
        for file in Path(ROOT / folder).rglob("*.py")
        if any(word in file.read_text() for word in ["os.environ[", "os.environ.get", "getenv("])
    ]
    assert readers == ["config/environment.py"]


@pytest.mark.django_db
def test_web_statements_are_bounded_and_commands_are_not() -> None:
    show = (
        "from django.db import connection\n"
        "with connection.cursor() as cursor:\n"
        "    for name in ['statement_timeout', 'lock_timeout']:\n"
        "        cursor.execute(f'SHOW {name}'); print(cursor.fetchone()[0], end=' ')\n"
    )
    environment = {"DATABASE_URL": database_url()}
    assert run("-c", f"import config.wsgi\n{show}", **environment).stdout == "15s 5s "
    assert run("manage.py", "shell", "-v", "0", "-c", show, **environment).stdout == "0 0 "
