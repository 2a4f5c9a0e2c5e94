"""The project has one version, and shows it everywhere."""

import platform
import re
from typing import Any

import django
import pytest
import yaml
from django.db import connection
from django.test import Client

from tests.processes import ROOT, database_url, run
from tests.silent import closed_port, silent_server
from usage import __version__

VERSIONS = [
    f"Usage {__version__}",
    f"Python {platform.python_version()}",
    f"Django {django.get_version()}",
]


def printed(*arguments: str, **environment: str) -> list[str]:
    """Return the lines of the command, which must succeed."""
    ended = run("manage.py", "version", *arguments, **environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def test_newest_section_of_the_changelog_is_this_version() -> None:
    """Fails when a release changes the version or the changelog alone."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", text, re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    version, day = sections[1]
    assert version == __version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)


@pytest.mark.django_db
def test_description_of_the_api_has_the_version(client: Client) -> None:
    committed: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
    assert committed["info"]["version"] == __version__
    served = client.get("/api/v1/schema/", headers={"Accept": "application/json"}).json()
    assert served["info"]["version"] == __version__


def test_health_shows_the_version(client: Client) -> None:
    assert client.get("/health/live").json() == {"live": True, "version": __version__}


@pytest.mark.django_db
def test_command_prints_the_versions_in_use() -> None:
    """Fails when manage.py lets Django run its own command of this name."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (server,) = cursor.fetchone()
    assert printed(DATABASE_URL=database_url()) == [*VERSIONS, f"PostgreSQL {server}"]


def test_command_succeeds_without_the_database() -> None:
    url = f"postgresql://nobody@127.0.0.1:{closed_port()}/none"
    assert printed(DATABASE_URL=url) == [
        *VERSIONS,
        "PostgreSQL unknown: the database cannot be reached. "
        "Check DATABASE_URL and that its server runs.",
    ]


def test_command_does_not_wait_for_a_database_that_hangs() -> None:
    with silent_server() as port:
        *versions, server = printed(DATABASE_URL=f"postgresql://nobody@127.0.0.1:{port}/none")
    assert versions == VERSIONS
    assert server.startswith("PostgreSQL unknown: the database did not answer within 2 s.")


@pytest.mark.parametrize("arguments", [["version", "--help"], ["help", "version"]])
def test_command_has_help(arguments: list[str]) -> None:
    ended = run("manage.py", *arguments)
    assert ended.returncode == 0
    assert "Example: manage.py version" in " ".join(ended.stdout.split())
