"""Logins in the roles of the database, and Django connected as one of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tests.connections import run_sql


@contextmanager
def login_in(role: str) -> Iterator[str]:
    """Yield the name of a new login in this role, with Django's password; drop it at the end."""
    name = f"{role}_of_a_test"
    password = connection.settings_dict["PASSWORD"] or None
    run_sql(f"DROP ROLE IF EXISTS {name}")
    run_sql(f"CREATE ROLE {name} LOGIN PASSWORD %s IN ROLE {role}", [password])
    try:
        yield name
    finally:
        run_sql(f"DROP ROLE {name}")


@contextmanager
def django_as(login: str) -> Iterator[None]:
    """Connect Django as this login until the end."""
    ours = connection.settings_dict["USER"]
    connection.close()
    connection.settings_dict["USER"] = login
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["USER"] = ours
