"""Every question asked of the totals, as querysets.

A question about totals takes `daily`, the daily totals it is to be answered from (refreshed_daily
or live_daily), already narrowed to the days, types and subscriptions that are meant. Money is
Decimal in the currency of the deployment, quantities are kilobytes (data) or seconds (voice).

Where a value is asked for, an Expression may stand for it, so that one queryset serves many values.
"""

import math
from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Context, Decimal, Inexact
from enum import Enum
from typing import Any, TypeAlias

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    BooleanField,
    Case,
    Count,
    DateField,
    DateTimeField,
    Expression,
    F,
    Func,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    When,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Greatest, Now
from django.db.models.sql.compiler import SQLCompiler

from usage.errors import RecordsDroppedError, StaleTotalsError, TotalsNotFilledError
from usage.models import (
    DailyUsage,
    DataUsageRecord,
    LateKey,
    LiveDailyUsage,
    PeriodTotal,
    RefreshRun,
    Subscription,
    UsageState,
    UsageType,
    VoiceUsageRecord,
)
from usage.models.live import LiveTable

# Rows as dictionaries, from QuerySet.values().
Rows: TypeAlias = QuerySet[Any, Any]

# The days that may be asked for.
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)

# For money: sums and differences of any length are exact, or raise.
EXACT = Context(prec=1000, traps=[Inexact])

# The daily totals that a question may be answered from.
DailySource: TypeAlias = QuerySet[DailyUsage] | QuerySet[LiveDailyUsage]


class Source(Enum):
    """What a question is answered from."""

    DAILY = "the daily totals of the last refresh"
    PERIODS = "the totals of months and of all days of the last refresh"
    LIVE = "the raw records, as they are now"


class UsageDay(Func):
    """The day a moment belongs to, cut by the database."""

    function = "usage_day"
    arity = 1
    output_field = DateField()


class UsageDayStart(Func):
    """The earliest moment of a day, inclusive: a bound that prunes partitions."""

    function = "usage_day_start"
    arity = 1
    output_field = DateTimeField()


class UsageDayEnd(Func):
    """The moment after the last one of a day, exclusive: a bound that prunes partitions."""

    function = "usage_day_end"
    arity = 1
    output_field = DateTimeField()


class Negative(Func):
    """The value below zero as it is above, written as the indexes of period totals are."""

    template = "(-%(expressions)s)"
    arity = 1


class Behind(Func):
    """(a, b) > (x, y): where an index has these columns, a range that begins right there."""

    output_field = BooleanField()

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *_: Any, **__: Any
    ) -> tuple[str, tuple[Any, ...]]:
        parts: list[str] = []
        parameters: list[Any] = []
        for expression in self.get_source_expressions():
            part, its_parameters = compiler.compile(expression)
            parts.append(part)
            parameters += its_parameters
        half = len(parts) // 2
        return f"({', '.join(parts[:half])}) > ({', '.join(parts[half:])})", tuple(parameters)


@dataclass(frozen=True)
class TotalsState:
    """What the totals are as of, seen at read_at; both by the clock of the database."""

    as_of: datetime
    read_at: datetime
    time_zone: str
    raw_kept_from: date | None
    has_periods: bool
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
    state = UsageState.objects.annotate(read_at=Now(), version=RawSQL("xmin::text", [])).first()
    if state is None or state.as_of is None:
        raise TotalsNotFilledError
    return TotalsState(
        as_of=state.as_of,
        read_at=state.read_at,
        time_zone=state.time_zone,
        raw_kept_from=state.raw_kept_from,
        has_periods=state.open_digest is not None,
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


def refreshed_daily() -> QuerySet[DailyUsage]:
    """The daily totals of the last refresh."""
    return DailyUsage.objects.all()


def live_daily(
    *,
    subscription_ids: Sequence[int] | Expression | None = None,
    external_ids: Sequence[str] | Expression | None = None,
    from_date: date | Expression | None = None,
    to_date: date | Expression | None = None,
    owner: int | Expression | None = None,
) -> QuerySet[LiveDailyUsage]:
    """Daily totals exact at the snapshot of the statement, at least those of the subscriptions
    and days named here: the caller narrows. Naming subscriptions, or the user who owns them, makes
    it quick."""
    daily = LiveDailyUsage.objects.all()
    if subscription_ids is not None or external_ids is not None or owner is not None:
        daily.query.join(
            LiveTable(
                subscription_ids=subscription_ids,
                external_ids=external_ids,
                owner=owner,
                first_day=from_date or date.min,
                last_day=to_date or date.max,
            )
        )
    return daily


def daily_rows(*, daily: DailySource) -> Rows:
    """The daily totals as they stand, one row per subscription, day and usage type."""
    return daily.values(
        "subscription_id",
        "day",
        "usage_type",
        "total_price",
        "total_usage",
        "record_count",
        "last_usage_at",
    )


def type_totals(*, daily: DailySource) -> Rows:
    """One row per subscription and usage type that had usage, added up over its days."""
    return daily.values("subscription_id", "usage_type").annotate(
        price=Sum("total_price"),
        usage=Sum("total_usage"),
        records=Sum("record_count"),
        first_day=Min("day"),
        last_day=Max("day"),
    )


def day_totals(*, daily: DailySource) -> Rows:
    """One row per day and usage type that had usage, added up over its subscriptions, which are
    counted."""
    return daily.values("day", "usage_type").annotate(
        price=Sum("total_price"),
        usage=Sum("total_usage"),
        records=Sum("record_count"),
        subscriptions=Count("*"),
    )


def over_limit(*, daily: DailySource, price_limit: Decimal | Expression) -> Rows:
    """One row per subscription with a usage type whose price, added up, reached the limit.

    Each row has subscription_id, `<type>_price` for every type (None without usage of that type)
    and rank, the largest of these below zero: so that the order by rank and subscription ascends
    in both.
    """
    by_type = {
        f"{usage_type.value}_price": Sum("total_price", filter=Q(usage_type=usage_type.value))
        for usage_type in UsageType
    }
    return (
        daily.values("subscription_id")
        .annotate(**by_type)
        .alias(largest_price=Greatest(*by_type))
        .filter(largest_price__gte=price_limit)
        .annotate(rank=Negative("largest_price"))
    )


def exceeded(
    prices: Iterable[Decimal | None], price_limit: Decimal
) -> list[tuple[UsageType, Decimal, Decimal]]:
    """Each usage type whose price reached the limit, its price, and by how much it is exceeded.

    `prices` are those of a row of over_limit, in the order of UsageType.
    """
    return [
        (usage_type, price, EXACT.subtract(price, price_limit))
        for usage_type, price in zip(UsageType, prices, strict=True)
        if price is not None and price >= price_limit
    ]


def whole_period(from_date: date | None, to_date: date | None) -> date | None:
    """The period that these days are: a month by its first day, ALL_DAYS when both are open, or
    None for any other days."""
    if from_date is None and to_date is None:
        return PeriodTotal.ALL_DAYS
    if from_date is None or to_date is None or from_date.day != 1:
        return None
    return from_date if to_date == month_end(from_date) else None


def month_end(day: date) -> date:
    """The last day of the month that this day is in."""
    return day.replace(day=monthrange(day.year, day.month)[1])


def period_totals(*, period: date | Expression) -> QuerySet[PeriodTotal]:
    """The totals of one period as of the last refresh, those of TotalsState.has_periods."""
    return PeriodTotal.objects.filter(period=period)


def over_limit_in_period(
    *, totals: QuerySet[PeriodTotal], price_limit: Decimal | Expression, is_of_one_type: bool
) -> Rows:
    """The rows of over_limit for the totals of one period: a range of an index.

    `is_of_one_type` says that they are narrowed to one usage type.
    """
    if is_of_one_type:
        by_type: dict[str, Any] = {
            f"{usage_type.value}_price": Case(When(usage_type=usage_type.value, then="total_price"))
            for usage_type in UsageType
        }
    else:
        totals = totals.filter(is_largest=True)
        by_type = {
            f"{usage_type.value}_price": Subquery(
                PeriodTotal.objects.filter(
                    subscription_id=OuterRef("subscription_id"),
                    period=OuterRef("period"),
                    usage_type=usage_type.value,
                ).values("total_price")
            )
            for usage_type in UsageType
        }
    return (
        totals.annotate(**by_type, rank=Negative("total_price"))
        .filter(rank__lte=Negative(price_limit))
        .values("subscription_id", *by_type, "rank")
    )


def over_limit_page(*, rows: Rows, after: tuple[Decimal, int] | None, size: int) -> Rows:
    """The next `size` rows of over_limit or over_limit_in_period, the largest total first, behind
    the row with this rank and subscription."""
    if after is not None:
        rows = rows.filter(Behind("rank", "subscription_id", *after))
    return rows.order_by("rank", "subscription_id")[:size]


def refuse_dropped_day(*, day: date, kept_from: date | None) -> None:
    """Raises RecordsDroppedError for a day before kept_from, the first whose records are kept."""
    if kept_from is not None and day < kept_from:
        raise RecordsDroppedError(
            f"The raw records of {day} are dropped: {kept_from} is the first day whose records are "
            "kept. The daily total of the day stays."
        )


def day_records(
    *, subscription_id: int | Expression, usage_type: UsageType, day: date | Expression
) -> Rows:
    """The raw records behind one daily total: id, usage_date, price and quantity.

    The bounds on usage_date only spare the other partitions; usage_day decides.
    """
    records: QuerySet[Any]
    if usage_type == UsageType.DATA:
        records, quantity = DataUsageRecord.objects.all(), "kilobytes_used"
    else:
        records, quantity = VoiceUsageRecord.objects.all(), "seconds_used"
    return (
        records.alias(day=UsageDay("usage_date"))
        .filter(
            subscription_id=subscription_id,
            usage_date__gte=UsageDayStart(day),
            usage_date__lt=UsageDayEnd(day),
            day=day,
        )
        .values("id", "usage_date", "price", quantity=F(quantity))
    )


def owned_by(*, rows: Rows, owner: int | Expression) -> Rows:
    """Those of the rows, which have a subscription_id, whose subscription this user owns."""
    owned = Subscription.objects.filter(owner=owner).values("id")
    return rows.filter(subscription_id__in=owned)


def subscription_rows(*, subscriptions: QuerySet[Subscription]) -> Rows:
    """The subscriptions as they stand: subscription_id, external_id and created_at."""
    return subscriptions.annotate(subscription_id=F("id")).values(
        "subscription_id", "external_id", "created_at"
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
)


def runs_newest_first() -> QuerySet[RefreshRun]:
    """The history of refreshes and audits."""
    return RefreshRun.objects.order_by("-pk")
