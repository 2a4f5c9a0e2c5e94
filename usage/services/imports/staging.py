"""The temporary table in which a batch waits, and which of its lines are known already."""

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
ONE_READ = 1 << 30  # hand over a batch in one piece: each piece waits for Python's lock again

STAGE = """
CREATE TEMP TABLE IF NOT EXISTS usage_import_staged (
    subscription_id bigint, usage_date timestamptz, quantity bigint, price numeric, id uuid,
    line bigint
) ON COMMIT DROP;
CREATE TEMP TABLE IF NOT EXISTS usage_import_left_out (line bigint, reason text) ON COMMIT DROP;
TRUNCATE pg_temp.usage_import_staged, pg_temp.usage_import_left_out;
"""
# Statistics may call a full raw table empty: a join that begins there stays linear by this index.
INDEX = "CREATE INDEX IF NOT EXISTS usage_import_staged_id ON pg_temp.usage_import_staged (id)"
# Without statistics of the temporary table the planner would rather read whole days.
BY_KEY = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
# Equal values, the usual case, are not sent. The bounds keep the planner from other days.
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
    """What became of records. Those known already are as they were, or differ and stay."""

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
    """Records of one usage type, the ids of their subscriptions, and the days and the quarter
    hours of their batch."""

    usage_type: str
    records: list[Record]
    subscriptions: Mapping[str, int]
    days: frozenset[date]
    quarters: Collection[float]

    def sql(self, statement: str, **others: str) -> str:
        """A statement with the names of the raw table and of its quantity."""
        table, quantity = TABLES[self.usage_type]
        return statement.format(**{"table": table, "quantity": quantity, **others})

    def bounds(self) -> tuple[float, float]:
        """The first moment of the quarter hours and the first one after them, since 1970."""
        return min(self.quarters) * QUARTER_SECONDS, (max(self.quarters) + 1) * QUARTER_SECONDS


def stage(cursor: Any, part: Part) -> None:
    """Put the records of a part into the empty temporary table."""
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
    """Hand rows to a COPY in one piece."""
    # The values were matched against patterns without tabs or backslashes, or made here.
    with connection.wrap_database_errors:  # which Django leaves out with DEBUG
        cursor.copy_expert(statement, io.StringIO("".join(rows)), ONE_READ)


def take_known(cursor: Any, part: Part, **names: str) -> tuple[Part, Written]:
    """Remove the staged records whose key the raw table holds, or the table in `names`.

    Returns the part that is left, and what became of the removed records.
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
    """Why a line with other values than those of its record is not stored."""
    return (
        f"differs from the record that is kept: price {price} and quantity {quantity} there,"
        f" price {new_price} and quantity {new_quantity} here"
    )


def rejections(records: Sequence[Record], reasons: Mapping[int, str]) -> list[Rejection]:
    """The lines for which there is a reason, with their text."""
    return [
        Rejection(line, reasons[line], text.rstrip("\r"))
        for line, text, _, _ in (records if reasons else ())
        if line in reasons
    ]
