"""A database that a benchmark may fill and empty as it likes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dj_database_url
from django.conf import settings
from django.db import connection


@contextmanager
def throwaway_database() -> Iterator[None]:
    """Migrate a fresh database beside that of DATABASE_URL, use it, and drop it."""
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
    """Django's own connection leads to this database in the block."""
    ours = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(dj_database_url.parse(url))
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(ours)
