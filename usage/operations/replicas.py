"""How the replicas are, each asked beside the others for a bounded time."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from django.conf import settings

from usage.operations.bounded import NoAnswerError, ask_database
from usage.services import servers

# By the clock of the replica, whose as_of is the one that it has replayed.
AGE = """
    SELECT extract(EPOCH FROM clock_timestamp() - usage_state.as_of)::float FROM usage_state
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replica:
    """What a replica said: the age of its totals in seconds, None where it has none or is away."""

    name: str
    age_seconds: float | None
    # Of a replica that is away, what happened.
    fault: str | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether its totals are no older than USAGE_MAX_AGE_SECONDS."""
        return self.age_seconds is not None and self.age_seconds <= settings.USAGE_MAX_AGE_SECONDS


def look_at_replicas() -> list[Replica]:
    """Every replica, in the order of DATABASE_REPLICA_URL."""
    names = servers.replicas()
    if not names:
        return []
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        return list(pool.map(_look, names))


def _look(name: str) -> Replica:
    try:
        (age,) = ask_database(AGE, name)
    except NoAnswerError as error:
        logger.warning("The server %s %s: %s", name, error, error.__cause__)
        return Replica(name, None, str(error))
    return Replica(name, age)
