"""A new database for a benchmark, dropped afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dj_database_url
from django.conf import settings
from django.db import connection


@contextmanager
def throwaway_database() -> Iterator[None]:
    """Make and migrate a database on the server of DATABASE_URL, use it in the block, drop it."""
    settings.DEBUG = False
    original = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = f"benchmark_{original}_{os.getpid()}"
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(original, verbosity=0)


@contextmanager
def django_at(url: str) -> Iterator[None]:
    """Connect Django to this database in the block."""
    before = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(dj_database_url.parse(url))
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)
