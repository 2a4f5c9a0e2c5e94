"""Indexes by price of the period totals, built anew when their pages are half empty.

An entry of theirs moves with every price, and the server gives a page back only when it is empty:
what a month that is over left there would stay for ever.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from psycopg2 import sql

from usage.errors import IndexesHeldError
from usage.services.locks import DEADLOCK, LOCK_NOT_AVAILABLE, sqlstate

logger = logging.getLogger(__name__)

# How long a step waits for each transaction that began before it. Nobody waits for this meanwhile,
# but the cleaning up of old rows does.
WAIT_SECONDS = 10
BUILD_SECONDS = 3600

# A smaller index is not worth it.
SMALL_BYTES = 1_000_000

# An entry has a pointer of 4 bytes, a header of 8 and its columns, up to a multiple of 8; a new
# index fills nine tenths of its pages.
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

# What the server calls the new and the old index while it builds, and after it was cut off.
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


# A session that has ended holds nothing.
HOLDER = """
    SELECT activity.pid, activity.usename, activity.state, activity.state_change
    FROM (SELECT pid, backend_start FROM usage_index_care FOR UPDATE) AS care
    INNER JOIN pg_stat_activity AS activity
        ON activity.pid = care.pid AND activity.backend_start = care.backend_start
    WHERE activity.pid <> pg_backend_pid()
"""
BECOME_THE_ONE = """
    UPDATE usage_index_care
    SET pid = activity.pid, backend_start = activity.backend_start
    FROM pg_stat_activity AS activity
    WHERE activity.pid = pg_backend_pid()
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
            for index in loose:
                _execute("REINDEX INDEX CONCURRENTLY {}", index)
                logger.info("The index %s was built anew.", index[1])
        except DatabaseError as error:
            # Each write would keep it up for nothing, and on a full disk it takes the room.
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
    """Schema and name of each index."""
    with connection.cursor() as cursor:
        cursor.execute(query, {"small_bytes": SMALL_BYTES})
        return cursor.fetchall()


def _execute(statement: str, index: tuple[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(sql.Identifier(*index)))


@contextmanager
def _session_for_builds() -> Iterator[bool]:
    """Whether nobody else is at it: two builds of one table would wait for each other.

    The limits are those of the session: such a statement can't run in a transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'")
        cursor.execute(f"SET statement_timeout = '{BUILD_SECONDS}s'")
    is_alone = False
    try:
        try:
            is_alone = _become_the_one()
        except OperationalError as error:
            if sqlstate(error) == LOCK_NOT_AVAILABLE:
                raise IndexesHeldError from error
            raise
        yield is_alone
    finally:
        # All of it went with the session, if that is what failed.
        with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
            if is_alone:
                cursor.execute("UPDATE usage_index_care SET pid = NULL, backend_start = NULL")
            cursor.execute("RESET lock_timeout")
            cursor.execute("RESET statement_timeout")


def _become_the_one() -> bool:
    """Note this session as the one that builds; False, and a line in the log, while another is."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(HOLDER)
        holder = cursor.fetchone()
        if holder is not None:
            logger.warning(
                "Indexes are not looked after now: process %s of %s, %s since %s, is at it. To end "
                "it: SELECT pg_terminate_backend(%s)",
                *holder,
                holder[0],
            )
            return False
        cursor.execute(BECOME_THE_ONE)
    return True
