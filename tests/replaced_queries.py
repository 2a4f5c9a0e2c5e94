"""A statement of usage/sql/queries with another text, for tests of faults."""

from collections.abc import Callable

import pytest

from usage.sql import queries


def replace_query(monkeypatch: pytest.MonkeyPatch, name: str, text: Callable[[str], str]) -> None:
    """Let queries.read(name) return text(statement) until the end of the test."""
    read = queries.read

    def replaced(wanted: str, **identifiers: str) -> str:
        statement = read(wanted, **identifiers)
        return text(statement) if wanted == name else statement

    monkeypatch.setattr(queries, "read", replaced)
