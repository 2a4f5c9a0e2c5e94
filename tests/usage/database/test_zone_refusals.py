"""The first migrate refuses a zone that PostgreSQL reads differently from Python."""

import zoneinfo

import pytest
from django.conf import LazySettings

from tests.connections import ask, second_session
from tests.processes import database_url, run, scratch_database
from usage.database.startup import refuse_misread_time_zone
from usage.errors import TimeZoneMisreadError

pytestmark = pytest.mark.django_db


def is_refused() -> bool:
    try:
        refuse_misread_time_zone()
    except TimeZoneMisreadError:
        return True
    return False


def test_abbreviations_are_refused_and_every_other_zone_is_understood(
    settings: LazySettings,
) -> None:
    """Fails when the offsets of PostgreSQL are not compared with those of the zone."""
    refused = set()
    for settings.USAGE_TIME_ZONE in zoneinfo.available_timezones() - {"localtime"}:
        if is_refused():
            refused.add(settings.USAGE_TIME_ZONE)
    assert refused == {"CET", "EET", "MET", "WET"} & zoneinfo.available_timezones()


def test_first_migrate_refuses_and_a_later_one_warns() -> None:
    """For PostgreSQL CET is an hour ahead all year. A database that already uses it still migrates.

    Fails when the check is missing, or is an error for every database.
    """
    with scratch_database() as name:
        environment = {"DATABASE_URL": database_url(name), "USAGE_TIME_ZONE": "CET"}
        refused = run("manage.py", "migrate", **environment)
        assert refused.returncode != 0
        assert "reads USAGE_TIME_ZONE=CET as an abbreviation without summer" in refused.stderr
        with second_session(dbname=name, autocommit=True) as session:
            assert ask(session, "SELECT to_regclass('usage_state') IS NULL") == [(True,)]
        made = run("manage.py", "migrate", "--skip-checks", **environment)
        assert made.returncode == 0, made.stderr
        warned = run("manage.py", "migrate", **environment)
        assert warned.returncode == 0, warned.stderr
        assert "usage.W003" in warned.stderr
