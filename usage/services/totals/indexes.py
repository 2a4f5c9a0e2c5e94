"""Indexes of the period totals by price, rebuilt when they are loose: a third of the space is free.

An index entry moves whenever its price changes, and PostgreSQL reuses a page only when it is empty.
So the pages of a month that is over would stay half empty forever.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from psycopg2 import sql

from usage.database.errors import DEADLOCK, LOCK_NOT_AVAILABLE, sqlstate
from usage.errors import IndexesHeldError

logger = logging.getLogger(__name__)

# How long a step waits for each transaction that began before it. Meanwhile no other session waits
# for this one, but VACUUM cannot remove old row versions.
WAIT_SECONDS = 10
BUILD_SECONDS = 3600

# Smaller indexes are not rebuilt.
SMALL_BYTES = 1_000_000

# An index entry has a pointer of 4 bytes, a header of 8 bytes and its columns, rounded up to a
# multiple of 8. A new index fills nine tenths of each page.
LOOSE = """
    SELECT pg_namespace.nspname, index.relname
    FROM pg_index
    INNER JOIN pg_class AS index ON index.oid = pg_index.indexrelid
    INNER JOIN pg_namespace ON pg_namespace.oid = index.relnamespace
    CROSS JOIN LATERAL (
        SELECT (4 + 8 * ceil((8 + sum(pg_stats.avg_width)) / 8.0)) / 0.9 AS bytes
        FROM pg_attribute
        INNER JOIN pg_stats
            ON
                pg_stats.schemaname = pg_namespace.nspname
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

# REINDEX CONCURRENTLY uses these suffixes for invalid indexes; an interrupted one leaves them.
LEFT_BEHIND = """
    SELECT pg_namespace.nspname, index.relname
    FROM pg_index
    INNER JOIN pg_class AS index ON index.oid = pg_index.indexrelid
    INNER JOIN pg_namespace ON pg_namespace.oid = index.relnamespace
    WHERE
        pg_index.indrelid = 'usage_period_total'::regclass
        AND NOT pg_index.indisvalid
        AND index.relname ~ '_cc(new|old)[0-9]*$'
    ORDER BY index.relname
"""


# A row of usage_index_care whose session has ended does not count.
HOLDER = """
    SELECT activity.pid, activity.usename, activity.state, activity.state_change
    FROM (SELECT pid, backend_start FROM usage_index_care FOR UPDATE) AS care
    INNER JOIN pg_stat_activity AS activity
        ON activity.pid = care.pid AND activity.backend_start = care.backend_start
    WHERE activity.pid <> pg_backend_pid()
"""
BECOME_REBUILDER = """
    UPDATE usage_index_care
    SET pid = activity.pid, backend_start = activity.backend_start
    FROM pg_stat_activity AS activity
    WHERE activity.pid = pg_backend_pid()
"""


def rebuild_loose() -> list[str]:
    """Rebuild the indexes that take more than 1.5 times the size of a new one; return their names.

    Readers and refreshes are not blocked. Raises IndexesHeldError when a transaction stays open for
    too long; the next call removes the remains and tries again. Does nothing while another session
    rebuilds indexes.
    """
    with _session_for_builds() as is_alone:
        if not is_alone:
            return []
        try:
            _drop_left_behind()
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE usage_period_total")
            loose = _names(LOOSE)
            for index in loose:
                _execute("REINDEX INDEX CONCURRENTLY {}", index)
                logger.info("The index %s was rebuilt.", index[1])
        except DatabaseError as error:
            # Writers would maintain the invalid index for nothing, and it fills a full disk.
            with suppress(DatabaseError, InterfaceError):
                _drop_left_behind()
            if sqlstate(error) in {LOCK_NOT_AVAILABLE, DEADLOCK}:
                raise IndexesHeldError from error
            raise
    return [name for _, name in loose]


def _drop_left_behind() -> None:
    for index in _names(LEFT_BEHIND):
        _execute("DROP INDEX CONCURRENTLY IF EXISTS {}", index)


def _names(query: str) -> list[tuple[str, str]]:
    """Return schema and name of each index that the query finds."""
    with connection.cursor() as cursor:
        cursor.execute(query, {"small_bytes": SMALL_BYTES})
        return cursor.fetchall()


def _execute(statement: str, index: tuple[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(sql.Identifier(*index)))


@contextmanager
def _session_for_builds() -> Iterator[bool]:
    """Set timeouts for the session, and yield whether no other session rebuilds indexes.

    Two rebuilds of one table would wait for each other. SET LOCAL is no choice here, since a
    concurrent rebuild cannot run in a transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'")
        cursor.execute(f"SET statement_timeout = '{BUILD_SECONDS}s'")
    is_alone = False
    try:
        try:
            is_alone = _become_rebuilder()
        except OperationalError as error:
            if sqlstate(error) == LOCK_NOT_AVAILABLE:
                raise IndexesHeldError from error
            raise
        yield is_alone
    finally:
        # If the session has ended, its row does not count and its settings are gone.
        with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
            if is_alone:
                cursor.execute("UPDATE usage_index_care SET pid = NULL, backend_start = NULL")
            cursor.execute("RESET lock_timeout")
            cursor.execute("RESET statement_timeout")


def _become_rebuilder() -> bool:
    """Record this session as the one that rebuilds; False, with a log line, while another does."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(HOLDER)
        holder = cursor.fetchone()
        if holder is not None:
            logger.warning(
                "Indexes are not rebuilt now, because another session rebuilds them: process %s of "
                "%s, %s since %s. To end it: SELECT pg_terminate_backend(%s)",
                *holder,
                holder[0],
            )
            return False
        cursor.execute(BECOME_REBUILDER)
    return True
