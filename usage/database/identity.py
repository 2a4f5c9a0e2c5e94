"""The identity of a database: its uuid, the system identifier of its server, and its name.

A dump copies the uuid, so two databases are different if any of the three differs. A streaming
replica has the same three values as its primary, is in recovery, and follows its timeline.
"""

import hashlib
import logging
import time
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, connections
from django.utils.functional import cached_property

from usage.database.errors import first_line

# The columns of an Identity. The timeline is the one that the last refresh wrote. A replica gets it
# by replay, so a replica that follows another server than the primary has another value.
COLUMNS = """
    usage_state.uuid::text AS uuid,
    (SELECT system_identifier FROM pg_control_system())::text AS system,
    current_database()::text AS database,
    usage_state.timeline,
    pg_is_in_recovery() AS in_recovery
"""
IDENTITY = f"SELECT {COLUMNS} FROM usage_state"  # noqa: S608 - a constant

# PostgreSQL shows the timeline of a primary only in the name of a WAL file.
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


# The header of a Celery message with the key of the database.
HEADER = "database"

# How long read_patiently() waits before it tries again.
RETRY_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """The identity of the database on a server; the timeline is None before the first refresh."""

    uuid: str
    system: str
    database: str
    timeline: int | None
    in_recovery: bool

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits, unique to a database; a replica has those of its primary."""
        text = "/".join([self.uuid, self.system, self.database])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(server: str) -> Identity | None:
    """Return the identity of the database with this alias; None if usage_state has no row."""
    with connections[server].cursor() as cursor:
        cursor.execute(IDENTITY)
        row = cursor.fetchone()
    return Identity(*row) if row else None


def read_patiently() -> Identity:
    """Return the identity of the database; wait while it is unavailable or not migrated yet."""
    while True:
        try:
            known = read("default")
        except (DatabaseError, InterfaceError) as error:
            logger.warning("Waiting for the database: %s", first_line(error))
        else:
            if known is not None:
                return known
            logger.warning("Waiting for the database: usage_state has no row.")
        finally:
            if not connections["default"].in_atomic_block:
                connections["default"].close()
        time.sleep(RETRY_SECONDS)


def queue_of(database: Identity) -> str:
    """Return the name of the Celery queue of this database."""
    return f"usage-{database.key}"


def queue_name() -> str:
    """Return the name of the Celery queue of the database that this process uses."""
    return queue_of(read_patiently())


def place() -> tuple[int, str]:
    """Return the timeline of the primary and the place of its period totals.

    The place is the server, the database and the file of usage_period_total. It differs after a
    restore, an upgrade by pg_upgrade or a TRUNCATE.
    """
    with connections["default"].cursor() as cursor:
        cursor.execute(PLACE)
        timeline, here = cursor.fetchone()
    return timeline, here


def fault_of_replica(replica: Identity, primary: Identity | None) -> str:
    """Return why this server is no replica of the primary; empty if it is one.

    If the identity of the primary is unknown, every server in recovery passes as a replica.
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
        return "follows another timeline than the primary, or has not replayed the last failover"
    return ""
