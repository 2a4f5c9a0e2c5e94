"""Partitions of the raw tables, one a day, made in advance. Strays stay in the default one."""

import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from django.conf import settings
from django.db import OperationalError, ProgrammingError, connection, transaction
from psycopg2 import sql

from usage.database.errors import INSUFFICIENT_PRIVILEGE, LOCK_NOT_AVAILABLE, sqlstate
from usage.errors import RefreshRunningError
from usage.models import RAW_TABLES
from usage.services.raw import clock, locks
from usage.services.raw.locks import limit_exclusive_lock, take_refresh_lock

logger = logging.getLogger(__name__)

DAYS_AHEAD = 14


def maintain_partitions() -> list[date]:
    """Make the partitions from today to 14 days ahead; return the days that got one.

    Raises RefreshRunningError while a refresh runs.
    """
    return make_partitions(days_ahead())


def days_ahead() -> list[date]:
    """Return the days that need partitions: today and the next 14."""
    first = clock.today()
    return [first + timedelta(ahead) for ahead in range(DAYS_AHEAD + 1)]


def days_with_partitions() -> tuple[date, date]:
    """Return the first and last day that may get a partition.

    The first is the first kept day, at most USAGE_PARTITION_DAYS back; the last is 14 days ahead.
    Records of other days share the default partition.
    """
    today = clock.today()
    days = min(settings.USAGE_PARTITION_DAYS, settings.USAGE_RAW_RETENTION_DAYS or 36_500)
    return today - timedelta(days - 1), today + timedelta(DAYS_AHEAD)


def most_partitions() -> int:
    """Return the number of days that may have partitions under the current settings."""
    first, last = days_with_partitions()
    return (last - first).days + 1


def make_partitions(days: Iterable[date]) -> list[date]:
    """Make the missing partitions of these days; return the days for which one was made.

    If the default partition already holds a record of a day, the day gets none: records never move.
    Raises RefreshRunningError while a refresh runs.
    """
    existing = {table: set(partition_days(table)) for table in RAW_TABLES}
    made = []
    for day in sorted(set(days)):
        results = [
            _make_partition(table, day) for table in RAW_TABLES if day not in existing[table]
        ]
        if any(results):
            made.append(day)
    return made


def try_to_make_partitions(days: Collection[date], *, seconds: float) -> bool:
    """Make the missing partitions of these days; while a refresh runs, retry for `seconds`.

    Days outside days_with_partitions() get none. Returns False if the refresh took longer, or if
    the login does not own the tables. The default partition then takes the records.
    """
    first, last = days_with_partitions()
    days = [day for day in days if first <= day <= last]
    deadline = time.monotonic() + seconds
    while True:
        try:
            make_partitions(days)
        except RefreshRunningError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        except ProgrammingError as error:
            if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                raise
            return False
        else:
            return True


@dataclass(frozen=True, order=True)
class Leaf:
    """A partition that holds records. It may lie in another schema than its parent, if it was made
    under another search_path."""

    schema: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        """Return the name with its schema, for use in a statement."""
        return sql.Identifier(self.schema, self.name)

    @property
    def qualified(self) -> str:
        """Return the quoted name with its schema as text, for ::regclass."""
        return ".".join('"{}"'.format(part.replace('"', '""')) for part in (self.schema, self.name))


def day_partitions(table: str) -> dict[date, Leaf]:
    """Return the partitions whose names and bounds are those of one day, ordered by day."""
    with connection.cursor() as cursor:
        cursor.execute(
            r"""
            SELECT
                named.day,
                pg_namespace.nspname,
                leaf.relname
            FROM pg_inherits
            INNER JOIN pg_class AS leaf ON leaf.oid = pg_inherits.inhrelid
            INNER JOIN pg_namespace ON pg_namespace.oid = leaf.relnamespace
            CROSS JOIN LATERAL (
                SELECT
                    to_date(substring(leaf.relname FROM '_p([0-9]{8})$'), 'YYYYMMDD') AS day,
                    regexp_match(
                        pg_get_expr(leaf.relpartbound, leaf.oid),
                        $$FROM \('(.*)'\) TO \('(.*)'\)$$
                    ) AS bounds
            ) AS named
            WHERE
                pg_inherits.inhparent = %s::regclass
                AND named.bounds[1]::timestamptz = usage_day_start(named.day)
                AND named.bounds[2]::timestamptz = usage_day_start(named.day + 1)
            ORDER BY named.day
            """,
            [table],
        )
        return {day: Leaf(schema, name) for day, schema, name in cursor}


def partition_days(table: str) -> list[date]:
    """Return the days that have a partition of their own, in order."""
    return list(day_partitions(table))


def leaf_partitions(table: str) -> list[Leaf]:
    """Return every partition that holds records, also the default one and those made by others."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nspname, relname FROM pg_partition_tree(%s::regclass)"
            " INNER JOIN pg_class ON pg_class.oid = relid"
            " INNER JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE isleaf ORDER BY relname, nspname",
            [table],
        )
        return [Leaf(*row) for row in cursor]


def default_partition(table: str) -> Leaf:
    """Return the default partition, which takes the records of days without their own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nspname, relname FROM pg_partitioned_table"
            " INNER JOIN pg_class ON pg_class.oid = partdefid"
            " INNER JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE partrelid = %s::regclass",
            [table],
        )
        return Leaf(*cursor.fetchone())


def _parent(table: str) -> Leaf:
    """Return the table itself with its schema, in which new partitions are made."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nspname, relname FROM pg_class"
            " INNER JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE pg_class.oid = %s::regclass",
            [table],
        )
        return Leaf(*cursor.fetchone())


def leaf_name(table: str, day: date) -> str:
    """Return the name of the partition of one day."""
    return f"{table}_p{day:%Y%m%d}"


def _make_partition(table: str, day: date) -> bool:
    for _ in range(locks.TRIES):
        try:
            return _attach(table, day)
        except OperationalError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            time.sleep(locks.LOCK_MILLISECONDS / 1000)
    logger.warning(
        "No partition of %s was made for %s, because the default partition stayed locked. "
        "The next maintenance tries again.",
        table,
        day,
    )
    return False


def _attach(table: str, day: date) -> bool:
    """Make one table beside the parent, then attach it: ATTACH locks only the default partition."""
    parent, default = _parent(table), default_partition(table)
    leaf = Leaf(parent.schema, leaf_name(table, day))
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        take_refresh_lock()
        limit_exclusive_lock()
        cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(default.identifier))
        cursor.execute("SELECT usage_day_start(%s), usage_day_start(%s)", [day, day + timedelta(1)])
        start, end = cursor.fetchone()
        if start >= end:  # the zone skipped this day
            return False
        cursor.execute(
            sql.SQL(
                "SELECT EXISTS (SELECT 1 FROM {} WHERE usage_date >= %s AND usage_date < %s)"
            ).format(default.identifier),
            [start, end],
        )
        (has_strays,) = cursor.fetchone()
        cursor.execute(
            "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text)) IS NOT NULL,"
            " %s < date '1999-12-31' + last_value::integer FROM usage_raw_kept_from",
            [leaf.schema, leaf.name, day],
        )
        exists, is_closed = cursor.fetchone()
        if has_strays and not exists:
            logger.warning(
                "The default partition of %s holds records of %s, so this day gets no partition of "
                "its own.",
                table,
                day,
            )
        if has_strays or exists or is_closed:
            return False
        cursor.execute(
            sql.SQL(
                "CREATE TABLE {leaf} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS"
                " INCLUDING INDEXES INCLUDING STORAGE)"
            ).format(leaf=leaf.identifier, table=parent.identifier)
        )
        cursor.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM (%s) TO (%s)").format(
                parent.identifier, leaf.identifier
            ),
            [start, end],
        )
        return True
