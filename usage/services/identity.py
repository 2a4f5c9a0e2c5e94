"""The identity of a database: its own uuid, the server it lies on, and its name there.

A dump copies the uuid, so two databases differ when any of the three does. A streaming replica has
all three of its primary, is in recovery, and follows the timeline of its primary.
"""

import hashlib
import logging
import time
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, connections
from django.utils.functional import cached_property

# The columns of an Identity. The timeline is the one of the last refresh: a replica has it by
# replay, so that one that follows another server than the primary has another.
COLUMNS = """
    usage_state.uuid::text AS uuid,
    (SELECT system_identifier FROM pg_control_system())::text AS system,
    current_database()::text AS database,
    usage_state.timeline,
    pg_is_in_recovery() AS in_recovery
"""
IDENTITY = f"SELECT {COLUMNS} FROM usage_state"  # noqa: S608 - a constant

# PostgreSQL says the timeline of a primary only by the name of a file of its log.
PLACE = """
    SELECT
        ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer,
        concat_ws(
            '/',
            (SELECT system_identifier FROM pg_control_system()),
            (SELECT oid FROM pg_database WHERE datname = current_database()),
            pg_relation_filenode('usage_period_total'::regclass)
        )
"""


# The header of a message that names the database by its key.
HEADER = "database"

# How long a process that can do nothing without the database waits before it asks again.
AGAIN_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Which database a server has: None for the timeline before the first refresh."""

    uuid: str
    system: str
    database: str
    timeline: int | None
    in_recovery: bool

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that differ for any two databases; replicas have the same."""
        text = "/".join([self.uuid, self.system, self.database])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(server: str) -> Identity | None:
    """The identity of the database on the server of this alias; None without a row of state."""
    with connections[server].cursor() as cursor:
        cursor.execute(IDENTITY)
        row = cursor.fetchone()
    return Identity(*row) if row else None


def read_patiently() -> Identity:
    """The identity of the database; waits while it is away, or not migrated yet."""
    while True:
        try:
            known = read("default")
        except (DatabaseError, InterfaceError) as error:
            logger.warning("Waiting for the database: %s", str(error).partition("\n")[0])
        else:
            if known is not None:
                return known
            logger.warning("Waiting for the database: usage_state has no row.")
        finally:
            if not connections["default"].in_atomic_block:
                connections["default"].close()
        time.sleep(AGAIN_SECONDS)


def queue_of(database: Identity) -> str:
    """The name of the queue of messages for this database."""
    return f"usage-{database.key}"


def queue_name() -> str:
    """The name of the queue of the database that this process is connected to."""
    return queue_of(read_patiently())


def place() -> tuple[int, str]:
    """The timeline of the primary, and where its months lie: server, database and file.

    The place is another one after a restore, an upgrade by pg_upgrade or a TRUNCATE.
    """
    with connections["default"].cursor() as cursor:
        cursor.execute(PLACE)
        timeline, here = cursor.fetchone()
    return timeline, here


def fault_of_replica(replica: Identity, primary: Identity | None) -> str:
    """Why this is no replica of the primary; empty when it is one.

    Without the identity of the primary, only a server that is in recovery is a replica.
    """
    if not replica.in_recovery:
        return "is not a replica but takes writes itself: it was promoted, or is another database"
    if primary is None:
        return ""
    if replica.system != primary.system:
        return "is a replica of another server than the primary"
    if (replica.uuid, replica.database) != (primary.uuid, primary.database):
        return "has another database than the primary"
    if replica.timeline != primary.timeline:
        return "follows another timeline than the primary, or has not reached its last failover yet"
    return ""
