"""Indexes by price of the period totals, built anew when their pages are half empty.

An entry of theirs moves with every price, and the server gives a page back only when it is empty:
what a month that is over left there would stay for ever.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, InterfaceError, connection
from psycopg2 import sql

from usage.errors import IndexesHeldError
from usage.services.locks import DEADLOCK, LOCK_NOT_AVAILABLE, sqlstate

logger = logging.getLogger(__name__)

# How long a step waits for each transaction that began before it. Nobody waits for this meanwhile,
# but the cleaning up of old rows does.
WAIT_SECONDS = 10
BUILD_SECONDS = 3600

# The number of the advisory lock of whoever builds.
THE_ONE = int.from_bytes(b"indexes")

# A smaller index is not worth it.
SMALL_BYTES = 1_000_000

# An entry has a pointer of 4 bytes, a header of 8 and its columns, up to a multiple of 8; a new
# index fills nine tenths of its pages.
LOOSE = """
    SELECT index.relname
    FROM pg_index
    INNER JOIN pg_class AS index ON index.oid = pg_index.indexrelid
    CROSS JOIN LATERAL (
        SELECT (4 + 8 * ceil((8 + sum(pg_stats.avg_width)) / 8.0)) / 0.9 AS bytes
        FROM pg_attribute
        INNER JOIN pg_stats
            ON
                quote_ident(pg_stats.schemaname) = index.relnamespace::regnamespace::text
                AND pg_stats.tablename IN ('usage_period_total', index.relname)
                AND pg_stats.attname = pg_attribute.attname
        WHERE pg_attribute.attrelid = index.oid
    ) AS entry
    WHERE
        index.relname IN ('usage_period_total_price', 'usage_period_total_largest')
        AND pg_index.indrelid = 'usage_period_total'::regclass
        AND pg_relation_size(index.oid) > %(small_bytes)s
        AND pg_relation_size(index.oid) > 1.5 * index.reltuples * entry.bytes
    ORDER BY index.relname
"""

# What the server calls the new and the old index while it builds, and after it was cut off.
LEFT_BEHIND = """
    SELECT index.relname
    FROM pg_index
    INNER JOIN pg_class AS index ON index.oid = pg_index.indexrelid
    WHERE
        pg_index.indrelid = 'usage_period_total'::regclass
        AND NOT pg_index.indisvalid
        AND index.relname ~ '_cc(new|old)[0-9]*$'
    ORDER BY index.relname
"""


def rebuild_loose() -> list[str]:
    """Build anew the indexes that take some 1.5 times what a new one would; return their names.

    Readers and refreshes go on. Raises IndexesHeldError when a transaction stays open for too
    long; the next call takes up what this one left. Does nothing while another one is at it.
    """
    with _session_for_builds() as is_alone:
        if not is_alone:
            return []
        try:
            _drop_left_behind()
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE usage_period_total")
            loose = _names(LOOSE)
            for name in loose:
                _execute("REINDEX INDEX CONCURRENTLY {}", name)
                logger.info("The index %s was built anew.", name)
        except DatabaseError as error:
            # Each write would keep it up for nothing, and on a full disk it takes the room.
            with suppress(DatabaseError, InterfaceError):
                _drop_left_behind()
            if sqlstate(error) in {LOCK_NOT_AVAILABLE, DEADLOCK}:
                raise IndexesHeldError from error
            raise
    return loose


def _drop_left_behind() -> None:
    for name in _names(LEFT_BEHIND):
        _execute("DROP INDEX CONCURRENTLY IF EXISTS {}", name)


def _names(query: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(query, {"small_bytes": SMALL_BYTES})
        return [name for (name,) in cursor]


def _execute(statement: str, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(sql.Identifier(name)))


@contextmanager
def _session_for_builds() -> Iterator[bool]:
    """Whether nobody else is at it: two builds of one table would wait for each other.

    Limits and lock are those of the session: such a statement can't run in a transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'")
        cursor.execute(f"SET statement_timeout = '{BUILD_SECONDS}s'")
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [THE_ONE])
        (is_alone,) = cursor.fetchone()
    try:
        yield is_alone
    finally:
        # All of it went with the session, if that is what failed.
        with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
            if is_alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [THE_ONE])
            cursor.execute("RESET lock_timeout")
            cursor.execute("RESET statement_timeout")
