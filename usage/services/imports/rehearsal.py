"""The dry run of an import: write each batch like an import, and roll it back."""

import hashlib
from collections.abc import Collection
from datetime import date
from typing import Any

from django.db import connection, transaction

from usage.services.imports.staging import TABLES, Part, Written, stage, take_known
from usage.services.imports.ways import Way, merge, merge_by_line
from usage.services.imports.writer import BatchWriter

# The records that an import would have added, so that a later line with the same key is known.
SEEN = """
DROP TABLE IF EXISTS pg_temp.usage_import_seen_{usage_type};
CREATE TEMP TABLE usage_import_seen_{usage_type} (
    subscription_id bigint, usage_date timestamptz, id uuid, price numeric, quantity bigint,
    PRIMARY KEY (subscription_id, usage_date, id)
)
"""
REMEMBER = """
INSERT INTO {seen} (subscription_id, usage_date, id, price, quantity)
SELECT DISTINCT ON (subscription_id, usage_date, id)
    subscription_id, usage_date, id, price, quantity
FROM pg_temp.usage_import_staged
WHERE line NOT IN (SELECT unnest(%s::bigint[]))
ORDER BY subscription_id, usage_date, id, line
"""


def begin_rehearsal() -> None:
    """Make the empty tables for the records of a dry run, of one or several files."""
    with connection.cursor() as cursor:
        for usage_type in TABLES:
            cursor.execute(SEEN.format(usage_type=usage_type))


class Rehearsal(BatchWriter):
    """A writer that runs an import in a savepoint and rolls it back, to learn its results.

    It makes neither partitions nor subscriptions. Each batch has its own transaction, so it delays
    other writers no longer than an import does.
    """

    ways = (merge, merge_by_line)
    way_beside_known = 0

    def prepare(self, days: frozenset[date]) -> None:
        pass

    def subscriptions(self, cursor: Any, external_ids: Collection[str]) -> dict[str, int]:
        """Return the ids of existing subscriptions, and unused ids for the other names."""
        cursor.execute(
            "SELECT external_id, id FROM usage_subscription WHERE external_id = ANY(%s)",
            [sorted(external_ids)],
        )
        return {name: _unused_id(name) for name in external_ids} | dict(cursor.fetchall())

    def add(self, cursor: Any, way: Way, part: Part) -> Written:
        """Write the records in this way, roll back, and return the result."""
        seen = f"pg_temp.usage_import_seen_{part.usage_type}"
        stage(cursor, part)
        part, known_from_file = take_known(cursor, part, table=seen, quantity="quantity")
        part, known = take_known(cursor, part)
        if not part.records:
            return known_from_file + known
        with transaction.atomic():
            written = way(cursor, part)
            transaction.set_rollback(True)
        refused = [line for line, _, _ in written.refused]
        cursor.execute(REMEMBER.format(seen=seen), [refused])
        return known_from_file + known + written


def _unused_id(external_id: str) -> int:
    """Return a negative number that depends only on the name."""
    digest = hashlib.sha1(external_id.encode(), usedforsecurity=False).digest()
    return -1 - int.from_bytes(digest[:7])
