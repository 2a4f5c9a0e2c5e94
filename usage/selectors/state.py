"""What the totals are as of, and what a question is answered from."""

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum

from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from usage.errors import StaleTotalsError, TotalsNotFilledError
from usage.models import LateKey, RefreshRun, UsageState

# SQL for what is another one whenever totals may have changed. Every refresh of the view, by hand
# too, writes its row of the catalogue anew; whatever else changes totals writes the state anew.
VERSION = (
    "usage_state.xmin::text || '/' || (SELECT pg_class.xmin::text FROM pg_class"
    " WHERE oid = 'usage_daily_open'::regclass)"
)


class Source(Enum):
    """What a question is answered from."""

    DAILY = "the daily totals of the last refresh"
    PERIODS = "the totals of months and of all days of the last refresh"
    LIVE = "the raw records, as they are now"


@dataclass(frozen=True)
class TotalsState:
    """What the totals are as of, seen at read_at; both by the clock of the database."""

    as_of: datetime
    read_at: datetime
    time_zone: str
    raw_kept_from: date | None
    periods_filled: bool
    # Another one whenever totals may have changed: a rebuild changes some without moving as_of.
    version: str

    @property
    def age(self) -> timedelta:
        """How old the totals are."""
        return self.read_at - self.as_of

    def moment_of(self, source: Source) -> datetime:
        """What an answer from this source is as of."""
        return self.read_at if source is Source.LIVE else self.as_of


def totals_state() -> TotalsState:
    """What the totals are as of and the zone their days are cut in.

    Read before the totals, as_of is never later than the truth; read before live totals, read_at
    is not. Raises TotalsNotFilledError when there are no totals yet.
    """
    # Now() is the moment the server received the query, which is before it takes the snapshot.
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
    """Whether a question is answered from live totals instead of those of the last refresh.

    It is when `live` was asked for, or when the totals are older than max_staleness seconds and
    the question names its subscriptions. Raises StaleTotalsError when it names none.
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
    """The keys whose raw records changed after their day was over, until a refresh repairs them; a
    key may stand there more than once."""
    return LateKey.objects.all()


# What is told of a refresh.
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
    """The history of refreshes and audits."""
    return RefreshRun.objects.order_by("-pk")
