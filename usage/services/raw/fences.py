"""Fences: they wait until no transaction is left that began before a change.

A fence is a transaction id, drawn after a change that every writer must see. Once all transactions
with a smaller id have ended, no writer is left that did not see the change.
"""

from django.db import connection


def draw_fence() -> int:
    """Return the id of this transaction, which must have begun after the change."""
    return _number("SELECT pg_current_xact_id()::text::bigint")


def has_passed(fence: int | None) -> bool:
    """Return whether all transactions before the fence have ended in this snapshot."""
    if fence is None:
        return False
    return _number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint") >= fence


def is_from_another_server(fence: int | None) -> bool:
    """Return whether the fence must be drawn again, because it came with a restored dump.

    Such a fence is larger than every transaction id of this server, and may never pass. True also
    without a fence.
    """
    if fence is None:
        return True
    return fence > _number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")


def _number(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])
