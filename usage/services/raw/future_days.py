"""Days far in the future: a prune deletes their records and drops their empty partitions.

Otherwise every refresh would read a record dated years ahead until its day is over. Retention
keeps as many days in the future as in the past, and at least those that have partitions.
"""

from datetime import date, timedelta
from functools import partial

from django.db import connection
from psycopg2 import sql

from usage.models import RAW_TABLES
from usage.services.raw.locks import retry_locked
from usage.services.raw.partitions import DAYS_AHEAD, Leaf, day_partitions


def delete_future_records(last_day: date, *, dry_run: bool) -> int:
    """Delete the raw records of the days after last_day; return how many there are.

    Unlike dropping by retention, this changes totals: the next refresh leaves the records out.
    """
    count = 0
    for table in RAW_TABLES:
        query = "SELECT count(*) FROM {}" if dry_run else "DELETE FROM {}"
        with connection.cursor() as cursor:
            cursor.execute(
                sql.SQL(
                    f"{query} WHERE usage_date >= usage_day_start(%(day)s)"
                    " AND usage_day(usage_date) >= %(day)s"
                ).format(sql.Identifier(table)),
                {"day": last_day + timedelta(1)},
            )
            count += cursor.fetchone()[0] if dry_run else cursor.rowcount
    return count


def drop_future_partitions(today: date) -> list[str]:
    """Drop the empty partitions of days more than 14 days ahead; return their names.

    Such partitions were made while the clock was ahead, or by an import of an earlier release.
    The next prune tries again to drop a partition that stays locked.
    """
    dropped: list[str] = []
    for table in RAW_TABLES:
        for day, leaf in day_partitions(table).items():
            if day > today + timedelta(DAYS_AHEAD):
                work = partial(_drop_if_empty, leaf, dropped)
                retry_locked(work)
    return dropped


def _drop_if_empty(leaf: Leaf, dropped: list[str]) -> None:
    name = leaf.identifier
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
        cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(name))
        (holds_records,) = cursor.fetchone()
        if not holds_records:
            cursor.execute(sql.SQL("DROP TABLE {}").format(name))
            dropped.append(leaf.name)
