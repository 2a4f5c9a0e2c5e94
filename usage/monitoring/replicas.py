"""The state of the replicas, queried in parallel with a deadline."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from django.conf import settings

from usage.database import identity, routing
from usage.database.identity import Identity, fault_of_replica
from usage.monitoring.bounded import NoAnswerError, ask_database

# The age by the clock of the replica, from the as_of that it has replayed.
AGE = f"""
    SELECT
        extract(EPOCH FROM clock_timestamp() - usage_state.as_of)::float,
        {identity.COLUMNS}
    FROM usage_state
"""  # noqa: S608 - a constant

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replica:
    """A replica, with the age of its totals in seconds, or None without totals or with a fault.

    `fault` says why reads leave it out. `is_foreign`: it responds but is no replica of the primary.
    """

    name: str
    age_seconds: float | None
    fault: str | None = None
    is_foreign: bool = False

    @property
    def is_fresh(self) -> bool:
        """Return whether its totals are at most USAGE_MAX_AGE_SECONDS old."""
        return self.age_seconds is not None and self.age_seconds <= settings.USAGE_MAX_AGE_SECONDS


def look_at_replicas() -> list[Replica]:
    """Return every replica, in the order of DATABASE_REPLICA_URL."""
    names = routing.replicas()
    if not names:
        return []
    with ThreadPoolExecutor(max_workers=len(names) + 1) as pool:
        primary = pool.submit(_identity_of_primary)
        found = list(pool.map(_look, names))
        return [_compared(replica, known, primary.result()) for replica, known in found]


def _look(name: str) -> tuple[Replica, Identity | None]:
    try:
        age, *known = ask_database(AGE, name)
    except NoAnswerError as error:
        logger.warning("The server %s %s: %s", name, error, error.__cause__)
        return Replica(name, None, str(error)), None
    return Replica(name, age), Identity(*known)


def _identity_of_primary() -> Identity | None:
    try:
        return Identity(*ask_database(identity.IDENTITY))
    except NoAnswerError:
        return None  # the check of the database reports it


def _compared(replica: Replica, known: Identity | None, primary: Identity | None) -> Replica:
    if known is None or not (fault := fault_of_replica(known, primary)):
        return replica
    logger.warning("The server %s %s.", replica.name, fault)
    return Replica(replica.name, None, fault, is_foreign=True)
