"""The writer of batches of imported records to the raw tables, one transaction a batch."""

import re
from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from django.db import DatabaseError, OperationalError, connection, transaction

from usage.database.errors import DEADLOCK, SERIALIZATION_FAILURE, sqlstate
from usage.errors import ImportFileError
from usage.services.imports import turns
from usage.services.imports.batches import QUARTER_SECONDS, Batch
from usage.services.imports.staging import Part, Written
from usage.services.imports.ways import ABOUT_A_ROW, WAYS, Way
from usage.services.raw.partitions import try_to_make_partitions

RETRIES = 4
# Citus reports every fault in a COPY with this code. The next way finds the real fault.
UNSPECIFIC = "XX000"
PATIENCE_SECONDS = (
    10.0  # to wait for a running refresh; then the default partition takes the records
)


class BatchWriter:
    """A writer of the batches of one source, which uses the fastest way that works.

    A batch begins with the way that worked for the batch before it.
    """

    ways: Sequence[Way] = WAYS
    way_beside_known = 1  # the first way that works if some records are already known

    def __init__(self, source: str) -> None:
        self._turn = turns.slot_of(source)
        self._first_way = 0
        self._days: set[date] = set()
        self._patience = PATIENCE_SECONDS

    def write(self, batch: Batch) -> Written:
        """Write a batch in one transaction.

        Raises DatabaseError, or ImportFileError if another import of the source holds the turn for
        too long. Nothing of the batch is written then.
        """
        days = frozenset(_days_of(batch.quarters))
        self.prepare(days)
        try:
            return self._write_or_retry(batch, days)
        except turns.TurnTimeoutError as error:
            raise ImportFileError(turns.explain(self._turn)) from error

    def _write_or_retry(self, batch: Batch, days: frozenset[date]) -> Written:
        for _ in range(RETRIES):
            try:
                return self._write(batch, days)
            except OperationalError as error:
                # Imports do not deadlock with each other, but they may with other writers.
                if sqlstate(error) not in {DEADLOCK, SERIALIZATION_FAILURE}:
                    raise
        return self._write(batch, days)

    def prepare(self, days: frozenset[date]) -> None:
        """Make the partitions of days that have none."""
        missing = days - self._days
        if not missing:
            return
        if not try_to_make_partitions(missing, seconds=self._patience):
            self._patience = 0.0  # a long refresh runs: do not wait again for each batch
        self._days |= missing

    def subscriptions(self, cursor: Any, external_ids: Collection[str]) -> dict[str, int]:
        """Return the ids of these subscriptions, and lock them against deletion until commit."""
        return lock_or_make_subscriptions(cursor, external_ids)

    def add(self, cursor: Any, way: Way, part: Part) -> Written:
        """Write the records of a part in this way."""
        return way(cursor, part)

    def _write(self, batch: Batch, days: frozenset[date]) -> Written:
        for way in self.ways[self._first_way :]:
            try:
                written = self._transact(way, batch, days)
            except DatabaseError as error:
                code = sqlstate(error) or ""
                if way is self.ways[-1] or not (code == UNSPECIFIC or re.match(ABOUT_A_ROW, code)):
                    raise
            else:
                break
        self._first_way = 0 if written.added == batch.good() else self.way_beside_known
        return written

    def _transact(self, way: Way, batch: Batch, days: frozenset[date]) -> Written:
        with transaction.atomic(), connection.cursor() as cursor:
            # Only records of one source can be the same, so its imports could deadlock. They take
            # turns, batch by batch.
            turns.take(cursor, self._turn)
            subscriptions = self.subscriptions(cursor, batch.external_ids)
            return sum(
                (
                    self.add(
                        cursor,
                        way,
                        Part(usage_type, records, subscriptions, days, batch.quarters),
                    )
                    for usage_type, records in batch.records.items()
                    if records
                ),
                Written(),
            )


def _days_of(quarters: Collection[float]) -> set[date]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT usage_day(to_timestamp(quarter * %s))"
            " FROM unnest(%s::float8[]) AS quarters (quarter)",
            [QUARTER_SECONDS, list(quarters)],
        )
        return {day for (day,) in cursor}


def lock_or_make_subscriptions(cursor: Any, external_ids: Collection[str]) -> dict[str, int]:
    """Return ids by external id, and make missing subscriptions.

    FOR KEY SHARE prevents that a subscription is deleted before the batch commits.
    """
    found: dict[str, int] = {}
    while missing := sorted(set(external_ids) - found.keys()):
        cursor.execute(
            "SELECT external_id, id FROM usage_subscription"
            " WHERE external_id = ANY(%s) FOR KEY SHARE",
            [missing],
        )
        found.update(cursor.fetchall())
        if unknown := [external_id for external_id in missing if external_id not in found]:
            # `missing` is sorted: a fixed order prevents deadlocks between imports.
            cursor.execute(
                "INSERT INTO usage_subscription (external_id) SELECT unnest(%s)"
                " ON CONFLICT (external_id) DO NOTHING",
                [unknown],
            )
    return found
