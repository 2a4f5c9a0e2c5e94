"""The ways records get into a raw table: the fast one, the tolerant one, the one that explains."""

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from usage.models import DataUsageRecord, UsageType, VoiceUsageRecord
from usage.services.imports.batches import Record, Rejection

TABLES = {
    UsageType.DATA.value: (DataUsageRecord._meta.db_table, "kilobytes_used"),
    UsageType.VOICE.value: (VoiceUsageRecord._meta.db_table, "seconds_used"),
}
# Of all a server may say, these codes (data, constraints, triggers) speak of a row, so the row is
# rejected. Anything else (connection, disk, privileges, a missing table) stops the import.
ABOUT_A_ROW = "^(22|23|44|55000|P0|U)"
ONE_READ = 1 << 30  # hand over a batch in one piece: each piece waits for Python's lock again

# The name of a check is all that a row refused by it is told.
CLOSED = re.compile(r'"usage_raw_kept_from_(\d{4}-\d\d-\d\d)"')

COPY = "COPY {table} (subscription_id, usage_date, {quantity}, price, id) FROM STDIN"
STAGE = """
CREATE TEMP TABLE IF NOT EXISTS usage_import_staged (
    subscription_id bigint, usage_date timestamptz, quantity bigint, price numeric, id uuid,
    line bigint
) ON COMMIT DROP;
CREATE TEMP TABLE IF NOT EXISTS usage_import_left_out (line bigint, reason text) ON COMMIT DROP;
TRUNCATE pg_temp.usage_import_staged, pg_temp.usage_import_left_out;
"""
MERGE = """
INSERT INTO {table} (subscription_id, usage_date, {quantity}, price, id)
SELECT subscription_id, usage_date, quantity, price, id
FROM pg_temp.usage_import_staged
ORDER BY subscription_id, usage_date, id
ON CONFLICT DO NOTHING
"""
MERGE_BY_LINE = """
DO $do$
DECLARE
    staged record;
BEGIN
    FOR staged IN SELECT * FROM pg_temp.usage_import_staged ORDER BY line LOOP
        BEGIN
            INSERT INTO {table} (subscription_id, usage_date, {quantity}, price, id)
            VALUES (staged.subscription_id, staged.usage_date, staged.quantity, staged.price,
                staged.id)
            ON CONFLICT DO NOTHING;
            IF NOT FOUND THEN
                INSERT INTO pg_temp.usage_import_left_out (line) VALUES (staged.line);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE !~ '{about_a_row}' THEN
                RAISE;
            END IF;
            INSERT INTO pg_temp.usage_import_left_out (line, reason)
            VALUES (staged.line, SQLERRM);
        END;
    END LOOP;
END
$do$
"""


@dataclass
class Written:
    """What became of records."""

    added: int = 0
    already_known: int = 0
    refused: list[Rejection] = field(default_factory=list)

    def __add__(self, other: "Written") -> "Written":
        return Written(
            self.added + other.added,
            self.already_known + other.already_known,
            self.refused + other.refused,
        )


# cursor, usage type, records, subscription ids by external id
Way = Callable[[Any, str, list[Record], dict[str, int]], Written]


def copy(
    cursor: Any, usage_type: str, records: list[Record], subscriptions: dict[str, int]
) -> Written:
    """COPY into the table: fastest, but one record already known undoes it all."""
    table, quantity = TABLES[usage_type]
    _copy_rows(
        cursor,
        COPY.format(table=table, quantity=quantity),
        (f"{subscriptions[external_id]}{stored}\n" for _, _, external_id, stored in records),
    )
    return Written(added=len(records))


def merge(
    cursor: Any, usage_type: str, records: list[Record], subscriptions: dict[str, int]
) -> Written:
    """Add the records not known yet; one row the database refuses undoes it all."""
    table, quantity = TABLES[usage_type]
    _stage(cursor, records, subscriptions)
    cursor.execute(MERGE.format(table=table, quantity=quantity))
    return Written(added=cursor.rowcount, already_known=len(records) - cursor.rowcount)


def merge_by_line(
    cursor: Any, usage_type: str, records: list[Record], subscriptions: dict[str, int]
) -> Written:
    """Add the records not known yet, one at a time; rows the database refuses are reported."""
    table, quantity = TABLES[usage_type]
    _stage(cursor, records, subscriptions)
    cursor.execute(MERGE_BY_LINE.format(table=table, quantity=quantity, about_a_row=ABOUT_A_ROW))
    cursor.execute("SELECT line, reason FROM pg_temp.usage_import_left_out")
    reasons = dict(cursor.fetchall())
    refused = [
        Rejection(line, _explain(reason), text.rstrip("\r"))
        for line, text, _, _ in records
        if (reason := reasons.get(line)) is not None
    ]
    return Written(len(records) - len(reasons), len(reasons) - len(refused), refused)


WAYS: list[Way] = [copy, merge, merge_by_line]


def _explain(reason: str) -> str:
    closed = CLOSED.search(reason)
    return f"the day is closed: raw records are kept from {closed[1]}" if closed else reason


def _stage(cursor: Any, records: list[Record], subscriptions: dict[str, int]) -> None:
    cursor.execute(STAGE)
    _copy_rows(
        cursor,
        "COPY pg_temp.usage_import_staged FROM STDIN",
        (
            f"{subscriptions[external_id]}{stored}\t{line}\n"
            for line, _, external_id, stored in records
        ),
    )


def _copy_rows(cursor: Any, statement: str, rows: Iterable[str]) -> None:
    # The values were matched against patterns without tabs or backslashes, or made here.
    with connection.wrap_database_errors:  # which Django leaves out with DEBUG
        cursor.copy_expert(statement, io.StringIO("".join(rows)), ONE_READ)
