"""Fences: waiting until every transaction that began before a moment has ended.

A fence is a transaction id. Once the oldest transaction that still runs is not older than it,
nothing that could still write without knowing of the change before the fence is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

# Of a session, or of a prepared transaction that has none any more.
SESSION = """
    activity.pid,
    coalesce(activity.datname, prepared.database),
    coalesce(activity.usename, prepared.owner),
    activity.application_name,
    activity.state,
    coalesce(activity.xact_start, prepared.prepared) AS started_at,
    prepared.gid
"""


def draw_fence() -> int:
    """The id of this transaction, which must have begun after the change it guards."""
    return _number("SELECT pg_current_xact_id()::text::bigint")


def has_passed(fence: int | None) -> bool:
    """Whether the snapshot of this transaction sees the end of all that began before the fence."""
    if fence is None:
        return False
    return _number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint") >= fence


def is_from_another_server(fence: int | None) -> bool:
    """Whether the fence lies in the future: it came with a restored dump and would never pass."""
    if fence is None:
        return True
    return fence > _number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")


@dataclass(frozen=True)
class Blocker:
    """A transaction that is waited for. What the role may not see of another's session is None."""

    transaction_id: int | None
    pid: int | None
    database: str | None
    user: str | None
    application: str | None
    state: str | None
    started_at: datetime | None
    prepared_as: str | None

    def __str__(self) -> str:
        if self.prepared_as is not None:
            return (
                f"prepared transaction {self.prepared_as!r} in {self.database} of {self.user}, "
                f"since {self.started_at}. End it with COMMIT PREPARED or ROLLBACK PREPARED"
            )
        if self.pid is None:
            return f"transaction {self.transaction_id} of a session this role may not see"
        if self.state is None:
            return f"process {self.pid} of {self.user}, whose state this role may not see"
        return (
            f"process {self.pid} of {self.user} in {self.database} ({self.application}), "
            f"{self.state} since {self.started_at}. To end it: "
            f"SELECT pg_terminate_backend({self.pid})"
        )


def blockers(fence: int) -> list[Blocker]:
    """The open transactions older than the fence, oldest first, at most 20."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT
                running.xid::text::bigint,
                {SESSION}
            FROM pg_snapshot_xip(pg_current_snapshot()) AS running (xid)
            LEFT JOIN pg_stat_activity AS activity
                ON activity.backend_xid::text::bigint
                    = running.xid::text::bigint %% (1::bigint << 32)
            LEFT JOIN pg_prepared_xacts AS prepared
                ON prepared.transaction::text::bigint
                    = running.xid::text::bigint %% (1::bigint << 32)
            WHERE running.xid::text::bigint < %s
            ORDER BY running.xid::text::bigint
            LIMIT 20
            """,  # noqa: S608 - a constant
            [fence],
        )
        return [Blocker(*row) for row in cursor]


def holders(tables: Sequence[str]) -> list[Blocker]:
    """The open transactions that hold a lock on these tables or their partitions, oldest first, at
    most 20: what a closing waits for where no fence is drawn.

    Whoever refreshes is none of them, nor is a session of another server of a cluster.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT DISTINCT
                activity.backend_xid::text::bigint,
                {SESSION}
            FROM unnest(%s::regclass[]) AS raw_table
            CROSS JOIN LATERAL pg_partition_tree(raw_table) AS tree
            INNER JOIN pg_locks AS held
                ON
                    held.relation = tree.relid
                    AND held.granted
                    AND held.pid IS DISTINCT FROM pg_backend_pid()
                    AND held.database = (
                        SELECT oid FROM pg_database WHERE datname = current_database()
                    )
            LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
            -- A prepared transaction keeps the virtual id of the session that prepared it.
            LEFT JOIN pg_locks AS itself
                ON
                    held.pid IS NULL
                    AND itself.pid IS NULL
                    AND itself.locktype = 'transactionid'
                    AND itself.mode = 'ExclusiveLock'
                    AND itself.virtualtransaction = held.virtualtransaction
            LEFT JOIN pg_prepared_xacts AS prepared
                ON prepared.transaction = itself.transactionid
            WHERE NOT EXISTS (
                SELECT FROM pg_locks AS refreshing
                WHERE
                    refreshing.pid = held.pid
                    AND refreshing.relation = 'usage_refresh_lock'::regclass
            )
            ORDER BY started_at
            LIMIT 20
            """,  # noqa: S608 - a constant
            [list(tables)],
        )
        return [Blocker(*row) for row in cursor]


def _number(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])
