"""Liveness of this process, and readiness of the servers that it needs. They need no login.

A response holds no address, no name and no text of an error: these are in the log.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from threading import Lock

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from usage import __version__
from usage.monitoring.bounded import NoAnswerError, ask_broker, ask_database
from usage.monitoring.replicas import Replica, look_at_replicas
from usage.services.capture import sequences, triggers

# The checks open a database session, so a process runs them at most once in this time.
SECONDS_BETWEEN_LOOKS = 1.0

TOTALS = f"""
    SELECT
        usage_state.as_of IS NOT NULL AND view.relispopulated,
        coalesce(extract(EPOCH FROM clock_timestamp() - usage_state.as_of)::float, 0),
        EXISTS ({sequences.BEHIND}),
        (SELECT count(*) FROM ({triggers.FAULTS}) AS faults)
    FROM usage_state
    INNER JOIN pg_class AS view ON view.oid = 'usage_daily_open'::regclass
"""  # noqa: S608 - constants

SEQUENCES_REACHED = "The sequences have reached the state."
SEQUENCES_BEHIND = (
    "A restore left sequences behind usage_state. Run refresh_usage, which moves them, before "
    "writers start."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """One condition that must hold for this process to serve totals."""

    name: str
    ok: bool
    detail: str


@require_safe
@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """Respond that this process runs. Nothing else is checked."""
    return JsonResponse({"live": True, "version": __version__})


@require_safe
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """Respond 200 when every check holds, otherwise 503. Each check is one line."""
    checks = _looks.newest()
    is_ready = all(check.ok for check in checks)
    lines = ",\n".join(f"  {json.dumps(asdict(check))}" for check in checks)
    return HttpResponse(
        f'{{\n "ready": {json.dumps(is_ready)},\n "checks": [\n{lines}\n ]\n}}\n',
        status=200 if is_ready else 503,
        content_type="application/json",
    )


def look() -> list[Check]:
    """Run every check now."""
    return [*_database(), *map(_replica, look_at_replicas()), _broker()]


def _database() -> Iterator[Check]:
    try:
        populated, age, is_behind, faults = ask_database(TOTALS, parameters=triggers.PARAMETERS)
    except NoAnswerError as error:
        logger.warning("Not ready: the database %s: %s", error, error.__cause__)
        yield Check("database", False, f"The database {error}.")
        for name in ["sequences", "totals_populated", "totals_age", "capture"]:
            yield Check(name, False, "Unknown: the database is away.")
        return
    yield Check("database", True, "The database answers.")
    yield Check("sequences", not is_behind, SEQUENCES_BEHIND if is_behind else SEQUENCES_REACHED)
    most = settings.USAGE_MAX_AGE_SECONDS
    if populated:
        yield Check("totals_populated", True, "The totals are filled.")
        detail = f"The totals are {age:.0f} s old, at most {most} s are allowed."
        yield Check("totals_age", age <= most, detail)
    else:
        yield Check("totals_populated", False, "The totals were never filled. Run refresh_usage.")
        yield Check("totals_age", False, "There are no totals yet.")
    detail = f"{faults} triggers on raw tables are off." if faults else "Every trigger is on."
    yield Check("capture", not faults, detail)


def _replica(replica: Replica) -> Check:
    if replica.fault is not None:
        return Check(replica.name, False, f"The server {replica.fault}; others answer for it.")
    if replica.age_seconds is None:
        return Check(replica.name, False, "It has no totals yet.")
    detail = (
        f"Its totals are {replica.age_seconds:.0f} s old, at most "
        f"{settings.USAGE_MAX_AGE_SECONDS} s are allowed."
    )
    return Check(replica.name, replica.is_fresh, detail)


def _broker() -> Check:
    try:
        ask_broker("PING")
    except NoAnswerError as error:
        logger.warning("Not ready: the broker %s: %s", error, error.__cause__)
        return Check("broker", False, f"The broker {error}.")
    return Check("broker", True, "The broker answers.")


class _Looks:
    """The newest checks. A process runs them one at a time, and at most once a second."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._checks: list[Check] = []
        self._looked_at = float("-inf")

    def newest(self) -> list[Check]:
        # While another thread runs the checks, return the previous ones, if there are any: a server
        # that hangs must not hold every thread.
        if self._lock.acquire(blocking=not self._checks):
            try:
                if time.monotonic() - self._looked_at >= SECONDS_BETWEEN_LOOKS:
                    self._checks = look()
                    self._looked_at = time.monotonic()
            finally:
                self._lock.release()
        return self._checks


_looks = _Looks()
