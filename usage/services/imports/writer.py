"""Writes batches of imported records into the raw tables, one transaction a batch."""

import re
from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from django.db import DatabaseError, OperationalError, connection, transaction

from usage.errors import ImportFileError
from usage.services.imports import turns
from usage.services.imports.batches import QUARTER_SECONDS, Batch
from usage.services.imports.staging import Part, Written
from usage.services.imports.ways import ABOUT_A_ROW, WAYS, Way
from usage.services.locks import DEADLOCK, SERIALIZATION_FAILURE, sqlstate
from usage.services.partitions import try_to_make_partitions

RETRIES = 4
# Citus says this of whatever goes wrong with a COPY: the next way tells what it was.
UNSPECIFIC = "XX000"
PATIENCE_SECONDS = 10.0  # with a refresh that is on, before the default partition takes the records


class BatchWriter:
    """Writes the batches of one source, each in the fastest way that works.

    A batch begins with the way that did for the one before it.
    """

    ways: Sequence[Way] = WAYS
    way_beside_known = 1  # the first way that works where some records are known

    def __init__(self, source: str) -> None:
        self._turn = turns.slot_of(source)
        self._first_way = 0
        self._days: set[date] = set()
        self._patience = PATIENCE_SECONDS

    def write(self, batch: Batch) -> Written:
        """Commit a batch.

        Raises DatabaseError, or ImportFileError when another import of the source holds its turn
        for too long; then nothing of the batch was written.
        """
        days = frozenset(_days_of(batch.quarters))
        self.prepare(days)
        try:
            return self._write_or_retry(batch, days)
        except turns.TurnNotHadError as error:
            raise ImportFileError(turns.explain(self._turn)) from error

    def _write_or_retry(self, batch: Batch, days: frozenset[date]) -> Written:
        for _ in range(RETRIES):
            try:
                return self._write(batch, days)
            except OperationalError as error:
                # With writers that are not importers.
                if sqlstate(error) not in {DEADLOCK, SERIALIZATION_FAILURE}:
                    raise
        return self._write(batch, days)

    def prepare(self, days: frozenset[date]) -> None:
        """Make the partitions of days that have none."""
        missing = days - self._days
        if not missing:
            return
        if not try_to_make_partitions(missing, seconds=self._patience):
            self._patience = 0.0  # a long refresh is on: don't wait for each batch
        self._days |= missing

    def subscriptions(self, cursor: Any, external_ids: Collection[str]) -> dict[str, int]:
        """The ids of these subscriptions; they cannot be deleted until the batch commits."""
        return lock_or_make_subscriptions(cursor, external_ids)

    def add(self, cursor: Any, way: Way, part: Part) -> Written:
        """Add the records of a part in this way."""
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
            # Only records of one source can be the same. Its imports take turns, batch by batch,
            # so that they never wait for each other crosswise.
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
    """Ids by external id. FOR KEY SHARE keeps them from being deleted until the batch commits."""
    found: dict[str, int] = {}
    while missing := sorted(set(external_ids) - found.keys()):
        cursor.execute(
            "SELECT external_id, id FROM usage_subscription"
            " WHERE external_id = ANY(%s) FOR KEY SHARE",
            [missing],
        )
        found.update(cursor.fetchall())
        if unknown := [external_id for external_id in missing if external_id not in found]:
            # In one order everywhere, so that two imports never wait for each other crosswise.
            cursor.execute(
                "INSERT INTO usage_subscription (external_id) SELECT unnest(%s)"
                " ON CONFLICT (external_id) DO NOTHING",
                [unknown],
            )
    return found
