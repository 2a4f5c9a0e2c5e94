"""The state of the totals, the source of a response, late keys and runs."""

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum

from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from usage.errors import StaleTotalsError, TotalsNotFilledError
from usage.models import LateKey, RefreshRun, UsageState

# SQL of a version that differs whenever totals may have changed. Each refresh of the view, also by
# hand, rewrites the view's row in pg_class; every other change of totals rewrites usage_state.
VERSION = (
    "usage_state.xmin::text || '/' || (SELECT pg_class.xmin::text FROM pg_class"
    " WHERE oid = 'usage_daily_open'::regclass)"
)


class Source(Enum):
    """The source of a response."""

    DAILY = "the daily totals of the last refresh"
    PERIODS = "the totals of months and of all days of the last refresh"
    LIVE = "the raw records, as they are now"


@dataclass(frozen=True)
class TotalsState:
    """The state of the totals at read_at. as_of and read_at are by the clock of the database."""

    as_of: datetime
    read_at: datetime
    time_zone: str
    raw_kept_from: date | None
    periods_filled: bool
    # Differs whenever totals may have changed. A rebuild changes totals and leaves as_of unchanged.
    version: str

    @property
    def age(self) -> timedelta:
        """Return the age of the totals."""
        return self.read_at - self.as_of

    def moment_of(self, source: Source) -> datetime:
        """Return the as_of of a response from this source."""
        return self.read_at if source is Source.LIVE else self.as_of


def totals_state() -> TotalsState:
    """Read the state of the totals.

    Call this before reading totals: then as_of, or read_at for live totals, is never later than
    the truth. Raises TotalsNotFilledError when there are no totals yet.
    """
    # Now() is the moment at which the server received the query, before it takes the snapshot.
    state = UsageState.objects.annotate(read_at=Now(), version=RawSQL(VERSION, [])).first()  # noqa: S611 - a constant
    if state is None or state.as_of is None:
        raise TotalsNotFilledError
    return TotalsState(
        as_of=state.as_of,
        read_at=state.read_at,
        time_zone=state.time_zone,
        raw_kept_from=state.raw_kept_from,
        periods_filled=state.open_digest is not None,
        version=state.version,
    )


def is_answered_live(
    *, state: TotalsState, live: bool, max_staleness: int | None, is_named: bool
) -> bool:
    """Return whether a request needs live totals instead of those of the last refresh.

    It does with `live`, or when the totals are older than max_staleness seconds and the request
    names its subscriptions. Raises StaleTotalsError when it names none.
    """
    if live or max_staleness is None or state.age <= timedelta(seconds=max_staleness):
        return live
    if is_named:
        return True
    raise StaleTotalsError(
        f"The totals are {math.ceil(state.age.total_seconds())} seconds old, "
        f"max_staleness is {max_staleness}. Ask again after the next refresh, allow older totals, "
        "or name subscriptions (subscription_id, external_id) for a live answer."
    )


def late_keys() -> QuerySet[LateKey]:
    """Return the keys that wait for the next refresh to repair them; a key may occur repeatedly."""
    return LateKey.objects.all()


# Columns of a run that the API returns.
RUN_COLUMNS = (
    "id",
    "trigger",
    "status",
    "started_at",
    "finished_at",
    "as_of",
    "open_rows",
    "rows_changed",
    "keys_repaired",
    "days_sealed",
    "sealed_before",
    "subscriptions_audited",
    "keys_differing",
    "phases",
    "error",
    "remark",
)


def runs_newest_first() -> QuerySet[RefreshRun]:
    """Return the history of refreshes and audits."""
    return RefreshRun.objects.order_by("-pk")
