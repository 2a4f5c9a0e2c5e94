"""Turns of the imports of one source, batch by batch.

Only records of one source can be the same, so that imports of others never wait for each other.
"""

import hashlib
from typing import Any

from django.db import OperationalError, connection

from usage.services.fences import SESSION, Blocker
from usage.services.locks import LOCK_NOT_AVAILABLE, sqlstate

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


class TurnNotHadError(Exception):
    """Another session had the turn for too long."""


def slot_of(source: str) -> int:
    """Which turn the imports of this source take."""
    digest = hashlib.sha1(source.encode(errors="surrogateescape"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8]) % SLOTS


def take(cursor: Any, slot: int) -> None:
    """Have the turn until the transaction ends.

    Raises TurnNotHadError when another session has it for a minute.
    """
    cursor.execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
    try:
        cursor.execute(
            "UPDATE usage_import_turn SET taken_at = clock_timestamp() WHERE slot = %s", [slot]
        )
    except OperationalError as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        raise TurnNotHadError from error
    cursor.execute("SET LOCAL lock_timeout TO DEFAULT")


def explain(slot: int) -> str:
    """Who has the turn, for an operator to act on."""
    with connection.cursor() as cursor:
        cursor.execute(HOLDER, [slot])
        row = cursor.fetchone()
    holder = Blocker(*row) if row else "a session that has ended meanwhile"
    return (
        f"Another import of this source did not finish a batch within {WAIT_SECONDS} s: {holder}."
    )
