"""The sessions that a fence or a lock waits for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

# The columns of a Blocker: a prepared transaction has no session any more.
SESSION = """
    activity.pid,
    coalesce(activity.datname, prepared.database),
    coalesce(activity.usename, prepared.owner),
    activity.application_name,
    activity.state,
    coalesce(activity.xact_start, prepared.prepared) AS started_at,
    prepared.gid
"""


@dataclass(frozen=True)
class Blocker:
    """A transaction that a fence or a lock waits for; None where the role may not see a value."""

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
            return f"transaction {self.transaction_id} of a session that this role may not see"
        if self.state is None:
            return f"process {self.pid} of {self.user}, whose state this role may not see"
        return (
            f"process {self.pid} of {self.user} in {self.database} ({self.application}), "
            f"{self.state} since {self.started_at}. To end it: "
            f"SELECT pg_terminate_backend({self.pid})"
        )


def blockers(fence: int) -> list[Blocker]:
    """Return the open transactions before the fence: the oldest 20, oldest first."""
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
    """Return the transactions that lock these tables or their partitions: the oldest 20.

    In a window no fence is drawn, and closing a day waits for these. The list leaves out the
    refresh and the sessions on other servers of a cluster.
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
            -- A lock of a prepared transaction has no pid, so the virtual id finds its own lock.
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
