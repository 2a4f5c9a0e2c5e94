"""The number of locks that a refresh takes, and the number that the server has room for.

A statement over a partitioned table locks every partition with its indexes. The server keeps the
locks of all its databases in one table of a fixed size. Once it is full, statements fail in all of
them.
"""

from dataclasses import dataclass

from django.db import connection

from usage.models import RAW_TABLES

READ = """
    SELECT
        (SELECT count(*) FROM trees) + (
            SELECT count(*) FROM pg_index WHERE indrelid IN (SELECT relid FROM trees)
        ),
        current_setting('max_locks_per_transaction')::bigint
        * (
            current_setting('max_connections')::bigint
            + current_setting('max_prepared_transactions')::bigint
        ),
        current_setting('max_locks_per_transaction')::bigint
"""
TREES = """
    WITH trees AS MATERIALIZED (
        SELECT tree.relid
        FROM unnest(%s::regclass[]) AS raw_table
        CROSS JOIN LATERAL pg_partition_tree(raw_table) AS tree
    )
"""


@dataclass(frozen=True)
class LockRoom:
    """The locks that a refresh takes on raw tables, and the room that a server setting gives."""

    needed: int
    room: int
    max_locks_per_transaction: int

    @property
    def is_short(self) -> bool:
        """Whether a refresh takes more than half of the room, which all sessions share."""
        return 2 * self.needed > self.room

    def __str__(self) -> str:
        return f"a refresh takes {self.needed:,} of the {self.room:,} locks the server has room for"

    @property
    def advice(self) -> str:
        """The ways to get more room, or to need fewer locks."""
        return (
            f"Raise max_locks_per_transaction of the server (now {self.max_locks_per_transaction}) "
            "and restart it, or drop old days: set USAGE_RAW_RETENTION_DAYS lower and run "
            "manage.py prune_usage"
        )


def read() -> LockRoom:
    """Read the current numbers."""
    with connection.cursor() as cursor:
        cursor.execute(TREES + READ, [RAW_TABLES])
        return LockRoom(*cursor.fetchone())
