"""The temporary table that stages a batch, and the search for lines that are already known."""

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from django.db import connection

from usage.models import RECORD_MODELS
from usage.services.imports.batches import QUARTER_SECONDS, Record, Rejection

TABLES = {
    usage_type.value: (model._meta.db_table, model.quantity_column)
    for usage_type, model in RECORD_MODELS.items()
}
ONE_READ = 1 << 30  # send a batch in one piece, because each piece waits for Python's lock

STAGE = """
CREATE TEMP TABLE IF NOT EXISTS usage_import_staged (
    subscription_id bigint, usage_date timestamptz, quantity bigint, price numeric, id uuid,
    line bigint
) ON COMMIT DROP;
CREATE TEMP TABLE IF NOT EXISTS usage_import_left_out (line bigint, reason text) ON COMMIT DROP;
TRUNCATE pg_temp.usage_import_staged, pg_temp.usage_import_left_out;
"""
# If the statistics wrongly say that a raw table is empty, the join may begin there. With this
# index it stays linear.
INDEX = "CREATE INDEX IF NOT EXISTS usage_import_staged_id ON pg_temp.usage_import_staged (id)"
# The temporary table has no statistics, so the planner would prefer to read whole days.
BY_KEY = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
# Only values that differ are sent. The bounds let the planner skip other days.
KNOWN = """
SELECT
    staged.line,
    CASE WHEN kept.price <> staged.price OR kept.{quantity} <> staged.quantity
        THEN ARRAY[kept.price, kept.{quantity}, staged.price, staged.quantity]::text[] END
FROM pg_temp.usage_import_staged AS staged
INNER JOIN {table} AS kept
    ON
        kept.subscription_id = staged.subscription_id
        AND kept.usage_date = staged.usage_date
        AND kept.id = staged.id
WHERE kept.usage_date >= to_timestamp(%s) AND kept.usage_date < to_timestamp(%s)
"""
REMOVE = "DELETE FROM pg_temp.usage_import_staged WHERE line = ANY(%s)"


@dataclass
class Written:
    """The result of writing records. `already_known` records are equal to the line, `differing`
    lines have other values; the records that were there are kept in both cases."""

    added: int = 0
    already_known: int = 0
    days: set[date] = field(default_factory=set)
    refused: list[Rejection] = field(default_factory=list)
    differing: list[Rejection] = field(default_factory=list)

    def __add__(self, other: "Written") -> "Written":
        return Written(
            self.added + other.added,
            self.already_known + other.already_known,
            self.days | other.days,
            self.refused + other.refused,
            self.differing + other.differing,
        )


@dataclass(frozen=True)
class Part:
    """The records of one usage type in a batch, the ids of their subscriptions, and the days and
    quarter hours of the batch."""

    usage_type: str
    records: list[Record]
    subscriptions: Mapping[str, int]
    days: frozenset[date]
    quarters: Collection[float]

    def sql(self, statement: str, **others: str) -> str:
        """Return a statement with the names of the raw table and of its quantity."""
        table, quantity = TABLES[self.usage_type]
        return statement.format(**{"table": table, "quantity": quantity, **others})

    def bounds(self) -> tuple[float, float]:
        """Return the begin and the end, excluded, of the quarter hours, in seconds since 1970."""
        return min(self.quarters) * QUARTER_SECONDS, (max(self.quarters) + 1) * QUARTER_SECONDS


def stage(cursor: Any, part: Part) -> None:
    """Write the records of a part to the emptied temporary table."""
    subscriptions = part.subscriptions
    cursor.execute(STAGE)
    copy_rows(
        cursor,
        "COPY pg_temp.usage_import_staged FROM STDIN",
        (
            f"{subscriptions[external_id]}{stored}\t{line}\n"
            for line, _, external_id, stored in part.records
        ),
    )
    cursor.execute(INDEX)


def copy_rows(cursor: Any, statement: str, rows: Iterable[str]) -> None:
    """Send rows to a COPY in one piece."""
    # No value needs escaping: patterns exclude tabs and backslashes, or this module made the value.
    with connection.wrap_database_errors:  # with DEBUG, Django does not wrap errors of copy_expert
        cursor.copy_expert(statement, io.StringIO("".join(rows)), ONE_READ)


def take_known(cursor: Any, part: Part, **names: str) -> tuple[Part, Written]:
    """Remove the staged records whose key is in the raw table, or in the table in `names`.

    Returns the remaining part, and the result for the removed records.
    """
    if not part.records:
        return part, Written()
    cursor.execute(BY_KEY)
    cursor.execute(part.sql(KNOWN, **names), part.bounds())
    known = dict(cursor.fetchall())
    if not known:
        return part, Written()
    others = {line: other_values(*values) for line, values in known.items() if values}
    left = [record for record in part.records if record[0] not in known]
    if left:
        cursor.execute(REMOVE, [list(known)])
    return replace(part, records=left), Written(
        already_known=len(known) - len(others), differing=rejections(part.records, others)
    )


def other_values(price: str, quantity: str, new_price: str, new_quantity: str) -> str:
    """Return the reason why a line with other values than its record is not stored."""
    return (
        f"differs from the record that is kept: price {price} and quantity {quantity} there,"
        f" price {new_price} and quantity {new_quantity} here"
    )


def rejections(records: Sequence[Record], reasons: Mapping[int, str]) -> list[Rejection]:
    """Return the lines that have a reason, with their text."""
    return [
        Rejection(line, reasons[line], text)
        for line, text, _, _ in (records if reasons else ())
        if line in reasons
    ]
