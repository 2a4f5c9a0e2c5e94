"""Indexes of the period totals whose pages are half empty, built anew while everybody goes on.

An entry of an index by price moves with every price, and the server gives a page back only when it
is empty: what a month that is over left there would stay for ever.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection
from psycopg2 import sql

from usage.services.locks import LOCK_NOT_AVAILABLE, sqlstate

logger = logging.getLogger(__name__)

# How long one step waits for transactions that began before it: nobody waits for this meanwhile.
WAIT_SECONDS = 10

# An index that is smaller is not worth it.
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
                pg_stats.attname = pg_attribute.attname
                AND pg_stats.tablename IN ('usage_period_total', index.relname)
                AND pg_stats.schemaname = current_schema()
        WHERE pg_attribute.attrelid = index.oid
    ) AS entry
    WHERE
        pg_index.indrelid = 'usage_period_total'::regclass
        AND pg_index.indisvalid
        AND pg_relation_size(index.oid) > %(small_bytes)s
        AND pg_relation_size(index.oid) > 1.5 * index.reltuples * entry.bytes
    ORDER BY index.relname
"""

LEFT_BEHIND = """
    SELECT index.relname
    FROM pg_index
    INNER JOIN pg_class AS index ON index.oid = pg_index.indexrelid
    WHERE pg_index.indrelid = 'usage_period_total'::regclass AND NOT pg_index.indisvalid
    ORDER BY index.relname
"""


def rebuild_loose() -> list[str]:
    """Build indexes anew that take more than 1.5 times what a new one would; return their names.

    Neither readers nor refreshes wait. It waits for transactions that are open, but not for long:
    the next call takes up what this one left.
    """
    rebuilt: list[str] = []
    with _waiting_a_moment():
        if not _drop_left_behind():
            return rebuilt
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE (SKIP_LOCKED) usage_period_total")
        for name in _names(LOOSE):
            if not _done("REINDEX INDEX CONCURRENTLY {}", name):
                _drop_left_behind()
                break
            rebuilt.append(name)
    return rebuilt


def _drop_left_behind() -> bool:
    """Drop what a build that was cut off left: each write would keep it up for nothing."""
    return all(_done("DROP INDEX CONCURRENTLY IF EXISTS {}", name) for name in _names(LEFT_BEHIND))


def _names(query: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(query, {"small_bytes": SMALL_BYTES})
        return [name for (name,) in cursor]


def _done(statement: str, name: str) -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL(statement).format(sql.Identifier(name)))
    except OperationalError as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        logger.warning(
            "The index %s stays as it is: a transaction was open for more than %s s (manage.py "
            "usage_status names the oldest). The next day tries again.",
            name,
            WAIT_SECONDS,
        )
        return False
    return True


@contextmanager
def _waiting_a_moment() -> Iterator[None]:
    """These statements can't run in a transaction, whose end would undo the setting."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{WAIT_SECONDS}s"])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
