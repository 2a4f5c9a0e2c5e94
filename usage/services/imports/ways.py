"""Ways to write records to a raw table: COPY, a merge, and a merge line by line with reasons."""

import re
from collections.abc import Callable
from typing import Any

from usage.services.imports.staging import (
    Part,
    Written,
    copy_rows,
    rejections,
    stage,
    take_known,
)

# SQLSTATEs that concern one row (data, constraints, triggers): the row is rejected. All others
# (connection, disk, privileges, a missing table) stop the import.
ABOUT_A_ROW = "^(22|23|44|55000|P0|U)"

# The message of a violated CHECK constraint has only its name, which holds the day.
CLOSED = re.compile(r'"usage_raw_kept_from_(\d{4}-\d\d-\d\d)"')

COPY = "COPY {table} (subscription_id, usage_date, {quantity}, price, id) FROM STDIN"
MERGE = """
INSERT INTO {table} (subscription_id, usage_date, {quantity}, price, id)
SELECT DISTINCT ON (subscription_id, usage_date, id)
    subscription_id, usage_date, quantity, price, id
FROM pg_temp.usage_import_staged
ORDER BY subscription_id, usage_date, id, line
ON CONFLICT DO NOTHING
RETURNING usage_day(usage_date)
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
DAYS_BY_LINE = """
SELECT DISTINCT usage_day(usage_date)
FROM pg_temp.usage_import_staged
WHERE line NOT IN (SELECT line FROM pg_temp.usage_import_left_out)
"""


Way = Callable[[Any, Part], Written]


def copy(cursor: Any, part: Part) -> Written:
    """COPY into the table: the fastest way, but one known record rolls back the whole batch."""
    subscriptions = part.subscriptions
    copy_rows(
        cursor,
        part.sql(COPY),
        (f"{subscriptions[external_id]}{stored}\n" for _, _, external_id, stored in part.records),
    )
    return Written(added=len(part.records), days=set(part.days))


def merge(cursor: Any, part: Part) -> Written:
    """Add the staged records, using the first line of each key. One refused record rolls back the
    whole batch."""
    cursor.execute(part.sql(MERGE))
    written = Written(added=cursor.rowcount, days={day for (day,) in cursor})
    return written if written.added == len(part.records) else _with_repeated(cursor, part, written)


def merge_by_line(cursor: Any, part: Part) -> Written:
    """Add the staged records one at a time; report those that the database refuses."""
    cursor.execute(part.sql(MERGE_BY_LINE, about_a_row=ABOUT_A_ROW))
    cursor.execute("SELECT line, reason FROM pg_temp.usage_import_left_out")
    left_out = dict(cursor.fetchall())
    refused = {line: _explain(reason) for line, reason in left_out.items() if reason is not None}
    cursor.execute(DAYS_BY_LINE)
    written = Written(
        added=len(part.records) - len(left_out),
        days={day for (day,) in cursor},
        refused=rejections(part.records, refused),
    )
    return written if len(refused) == len(left_out) else _with_repeated(cursor, part, written)


def staged(way: Way) -> Way:
    """Return a way that first stages the records and removes the known ones."""

    def stage_first(cursor: Any, part: Part) -> Written:
        stage(cursor, part)
        new, known = take_known(cursor, part)
        return known + way(cursor, new) if new.records else known

    return stage_first


WAYS: list[Way] = [copy, staged(merge), staged(merge_by_line)]


def _with_repeated(cursor: Any, part: Part, written: Written) -> Written:
    """Count the lines whose record was added by an earlier line or another writer. By now all
    records are known, also those that this call added."""
    _, known = take_known(cursor, part)
    known.already_known -= written.added
    return written + known


def _explain(reason: str) -> str:
    closed = CLOSED.search(reason)
    return f"the day is closed: raw records are kept from {closed[1]}" if closed else reason
