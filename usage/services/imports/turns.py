"""Turns: imports of one source write their batches one after the other.

Only records of one source can be the same, so imports of different sources need not wait.
"""

import hashlib
from typing import Any

from django.db import OperationalError, connection

from usage.database.blockers import SESSION, Blocker
from usage.database.errors import LOCK_NOT_AVAILABLE, sqlstate
from usage.errors import ImportFileError

SLOTS = 1024
WAIT_SECONDS = 60

HOLDER = f"""
    SELECT
        turn.xmax::text::bigint,
        {SESSION}
    FROM usage_import_turn AS turn
    LEFT JOIN pg_stat_activity AS activity ON activity.backend_xid::text = turn.xmax::text
    LEFT JOIN pg_prepared_xacts AS prepared ON prepared.transaction::text = turn.xmax::text
    WHERE turn.slot = %s AND turn.xmax::text <> '0'
"""  # noqa: S608 - a constant


class TurnTimeoutError(Exception):
    """Another session held the turn for too long."""


def slot_of(source: str) -> int:
    """Return the number of the turn of this source."""
    digest = hashlib.sha1(source.encode(errors="surrogateescape"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8]) % SLOTS


def take(cursor: Any, slot: int) -> None:
    """Take the turn until the transaction ends.

    Raises TurnTimeoutError if another session holds it for a minute, ImportFileError if the table
    of turns has no row for it.
    """
    cursor.execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
    try:
        cursor.execute(
            "UPDATE usage_import_turn SET taken_at = clock_timestamp() WHERE slot = %s", [slot]
        )
    except OperationalError as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        raise TurnTimeoutError from error
    if not cursor.rowcount:
        raise ImportFileError(
            f"The table usage_import_turn has no row {slot}, as after a restore without its rows. "
            "Without it two imports of one source could deadlock. As the owner run: "
            f"INSERT INTO usage_import_turn (slot) SELECT generate_series(0, {SLOTS - 1})"
            " ON CONFLICT DO NOTHING"
        )
    cursor.execute("SET LOCAL lock_timeout TO DEFAULT")


def explain(slot: int) -> str:
    """Return a message for operators that names the session that holds the turn."""
    with connection.cursor() as cursor:
        cursor.execute(HOLDER, [slot])
        row = cursor.fetchone()
    holder = Blocker(*row) if row else "a session that has ended meanwhile"
    return (
        f"Another import of this source did not finish a batch within {WAIT_SECONDS} s: {holder}."
        " Repeat this import when that one has ended."
    )
