"""The materialized view of the open days: refresh it and note the changes."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from django.db import connection

from usage.services.changes import EXACT, FINGERPRINT, Changes

NOTE_REPLACED_ROWS = """
    INSERT INTO usage_total_change (
        subscription_id, day, usage_type, total_price, total_usage, record_count
    )
    SELECT
        gone.subscription_id,
        gone.day,
        gone.usage_type,
        -gone.total_price,
        -gone.total_usage,
        -gone.record_count
    FROM usage_refresh_daily_open() AS refreshed (transaction_id)
    CROSS JOIN LATERAL usage_daily_open_touched_by(refreshed.transaction_id) AS gone
"""

NOTE_NEW_ROWS = """
    INSERT INTO usage_total_change (
        subscription_id, day, usage_type, total_price, total_usage, record_count
    )
    SELECT subscription_id, day, usage_type, total_price, total_usage, record_count
    FROM usage_daily_open_touched_by(pg_current_xact_id())
"""

LOOK = f"""
    SELECT count(*), count(*) FILTER (WHERE xmin = pg_current_xact_id()::xid), {FINGERPRINT}
    FROM usage_daily_open
"""  # noqa: S608 - a constant


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
        cursor.execute(NOTE_REPLACED_ROWS)
        cursor.execute(NOTE_NEW_ROWS)
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
        cursor.execute(LOOK)
        return OpenRows(*cursor.fetchone())
