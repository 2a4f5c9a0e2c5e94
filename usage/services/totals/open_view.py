"""The materialized view of the open days: refresh it and note the changes."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from django.db import connection

from usage.services.totals.changes import EXACT, Changes
from usage.sql import queries


@dataclass(frozen=True)
class OpenRows:
    """The rows of the view after a refresh: their number, how many of them the refresh wrote, and
    their fingerprint."""

    count: int
    changed: int
    fingerprint: Decimal


def refresh_and_note(changes: Changes, before: Decimal, first_day: date) -> OpenRows:
    """Refresh the view concurrently and note the changes.

    `before` is the fingerprint of the view before the refresh, `first_day` its first day.

    The first statement runs the refresh and still sees the rows that the refresh replaces or
    removes. A later statement would not find the rows of removed keys.
    """
    with connection.cursor() as cursor:
        cursor.execute(queries.read("note_replaced_rows"))
        cursor.execute(queries.read("note_new_rows"))
    rows = look()
    changes.add_written(EXACT.subtract(rows.fingerprint, before), first_day)
    return rows


def refresh() -> OpenRows:
    """Refresh the view, concurrently if it was filled before, and note nothing."""
    concurrently = "CONCURRENTLY" if is_filled() else ""
    with connection.cursor() as cursor:
        cursor.execute(f"REFRESH MATERIALIZED VIEW {concurrently} usage_daily_open")
    return look()


def is_filled() -> bool:
    """Return whether the view was ever filled. Until then every query of it fails."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relispopulated FROM pg_class WHERE oid = 'usage_daily_open'::regclass"
        )
        (filled,) = cursor.fetchone()
    return filled


def fingerprint() -> Decimal | None:
    """Return the fingerprint of the view, or None if the view was never filled."""
    return look().fingerprint if is_filled() else None


def look() -> OpenRows:
    """Return the current rows of the view, as numbers."""
    with connection.cursor() as cursor:
        cursor.execute(queries.read("open_rows"))
        return OpenRows(*cursor.fetchone())
