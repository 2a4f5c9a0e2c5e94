"""The types of responses, from which the published schema is made.

The name of a type here is its name in a generated client. So no name is that of a built-in type of
a client's language, such as Record in TypeScript.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, TypedDict
from uuid import UUID

from django.db.models import TextChoices

from usage.api.bounds import IDS, Schema
from usage.models import RefreshRun, UsageType


def _described(description: str, example: Any, **rules: Any) -> Schema:
    return {"description": description, "examples": [example], **rules}


def _one_of(values: type[StrEnum | TextChoices], example: str) -> Schema:
    """Return the rules of a value of an enum, whose schema has a name of its own."""
    return {"enum": values, "examples": [example]}


def _moment(description: str, example: str) -> Schema:
    """Return the rules of a moment, which is text in the format of moment_text."""
    return _described(description, example, format="date-time")


_MONEY = {"format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}


class Unit(StrEnum):
    """The unit in which quantities of a usage type are counted."""

    KILOBYTES = "kilobytes"
    SECONDS = "seconds"


SubscriptionId = Annotated[int, _described("The subscription.", 1, **IDS.schema)]
Type = Annotated[str, _one_of(UsageType, "data")]
InUnit = Annotated[str, _one_of(Unit, "kilobytes")]
Price = Annotated[str, _described("The price, exactly.", "260.45193828", **_MONEY)]
Count = Annotated[int, _described("The number of raw records in the total.", 488, minimum=1)]
Quantity = Annotated[int, _described("Kilobytes or seconds.", 19333449, minimum=0)]


class ExceededLimit(TypedDict):
    """A usage type whose price reached the limit."""

    usage_type: Type
    total_price: Price
    exceeded_by: Annotated[
        str,
        _described("The price minus the limit; zero if they are equal.", "110.45193828", **_MONEY),
    ]


class OverLimit(TypedDict):
    """A subscription that reached the limit, with each usage type that did."""

    subscription_id: SubscriptionId
    exceeded: Annotated[Sequence[ExceededLimit], {"minItems": 1}]


class TypeTotal(TypedDict):
    """The total of one subscription and usage type over the days."""

    subscription_id: SubscriptionId
    usage_type: Type
    unit: InUnit
    total_price: Price
    total_usage: Quantity
    record_count: Count
    first_day: Annotated[date, _described("The first day with usage.", "2026-11-01")]
    last_day: Annotated[date, _described("The last day with usage.", "2026-11-24")]


class DailyTotal(TypedDict):
    """The total of one subscription and usage type on one day."""

    subscription_id: SubscriptionId
    day: Annotated[date, _described("The day, in `time_zone`.", "2026-11-24")]
    usage_type: Type
    unit: InUnit
    total_price: Price
    total_usage: Quantity
    record_count: Count
    last_usage_at: Annotated[
        str, _moment("The moment of the newest record.", "2026-11-24T09:12:54.000000Z")
    ]


class UsageRecord(TypedDict):
    """One raw record."""

    id: Annotated[UUID, _described("The id of the record.", "0195f3a2-6c1e-7cc4-8ad0-3f1b5c2d9e77")]
    usage_date: Annotated[str, _moment("The moment of the usage.", "2026-11-24T09:12:54.000000Z")]
    price: Annotated[str, _described("The price; below zero for a credit.", "0.03125", **_MONEY)]
    quantity: Quantity
    unit: InUnit


class Subscription(TypedDict):
    """A subscription that usage is charged to."""

    subscription_id: SubscriptionId
    external_id: Annotated[
        str, _described("The name of the subscription in other systems.", "sub-000001")
    ]
    created_at: Annotated[
        str, _moment("When the subscription was created.", "2026-11-01T08:00:00.000000Z")
    ]


NextPage = Annotated[
    str | None,
    _described("The URL of the next page; null after the last page.", None, format="uri"),
]


class Envelope(TypedDict):
    """The fields around the results of a list of usage."""

    as_of: Annotated[
        str,
        _moment(
            "Every record committed by this moment is in the response.",
            "2026-11-24T11:37:17.214829Z",
        ),
    ]
    live: Annotated[
        bool, _described("Whether the rows were read at the moment of the request.", False)
    ]
    time_zone: Annotated[str, _described("The zone in which days are cut.", "UTC")]
    currency: Annotated[str, _described("ISO 4217, of every price.", "USD", pattern="^[A-Z]{3}$")]
    from_date: Annotated[
        date | None, _described("The first requested day; null if open.", "2026-11-01")
    ]
    to_date: Annotated[
        date | None, _described("The last requested day; null if open.", "2026-11-30")
    ]
    next: NextPage


class OverLimitPage(Envelope):
    """A page of subscriptions that reached the limit."""

    results: Sequence[OverLimit]


class TotalsPage(Envelope):
    """A page of totals by subscription and usage type."""

    results: Sequence[TypeTotal]


class DailyPage(Envelope):
    """A page of totals by subscription, day and usage type."""

    results: Sequence[DailyTotal]


class UsageRecordsPage(Envelope):
    """A page of the raw records behind one daily total."""

    results: Sequence[UsageRecord]


class SubscriptionsPage(Envelope):
    """A page of subscriptions."""

    results: Sequence[Subscription]


class Run(TypedDict):
    """A run: one refresh or audit. A queued run has not begun."""

    id: Annotated[int, _described("The number of the run.", 1042, **IDS.schema)]
    trigger: Annotated[str, _one_of(RefreshRun.Trigger, "api")]
    status: Annotated[str, _one_of(RefreshRun.Status, "success")]
    started_at: Annotated[
        str,
        _moment(
            "When the run began; while it is queued, when it was requested.",
            "2026-11-24T14:40:12.500000Z",
        ),
    ]
    finished_at: Annotated[
        str | None, _moment("When the run ended; null until then.", "2026-11-24T14:40:12.700000Z")
    ]
    as_of: Annotated[
        str | None,
        _moment("The `as_of` of the totals after the run.", "2026-11-24T14:40:12.600000Z"),
    ]
    open_rows: Annotated[
        int | None, _described("Daily totals of the open days after the run.", 386)
    ]
    rows_changed: Annotated[
        int | None, _described("Daily totals of the open days that the run changed.", 2)
    ]
    keys_repaired: Annotated[int, _described("Late keys whose totals the run computed again.", 0)]
    days_sealed: Annotated[int, _described("Days that the run sealed.", 0)]
    sealed_before: Annotated[
        date | None,
        _described("The watermark: days before it are sealed; null if none is.", "2026-11-23"),
    ]
    subscriptions_audited: Annotated[
        int | None,
        _described("For an audit, how many subscriptions it compared; null if all.", None),
    ]
    keys_differing: Annotated[
        int | None, _described("For an audit, how many totals differed.", None)
    ]
    phases: Annotated[
        Mapping[str, float], _described("The seconds of each phase.", {"lock": 0.001})
    ]
    error: Annotated[str, _described("Why the run failed or was skipped.", "")]
    remark: Annotated[
        str,
        _described("Problems that a successful run found and repaired, or could not finish.", ""),
    ]


class RunsPage(TypedDict):
    """A page of refreshes, the newest first."""

    next: NextPage
    results: Sequence[Run]


class EndpointLine(TypedDict):
    """One endpoint of the API."""

    path: Annotated[str, _described("The path of the endpoint.", "/api/v1/usage/totals/")]
    methods: Annotated[Sequence[str], _described("The methods that it allows.", ["GET"])]
    description: Annotated[
        str,
        _described(
            "The subject of the endpoint.", "Totals by subscription and usage type over the days."
        ),
    ]


class EndpointList(TypedDict):
    """The endpoints of the API."""

    endpoints: Annotated[Sequence[EndpointLine], {"minItems": 1}]


class OpenApiDocument(TypedDict):
    """A description of the API in OpenAPI 3.1."""

    openapi: Annotated[str, _described("The version of OpenAPI.", "3.1.0")]
    info: Annotated[
        Mapping[str, object], _described("Title, version and licence.", {"title": "Usage"})
    ]
    servers: Annotated[
        Sequence[Mapping[str, object]], _described("The addresses of the server.", [{"url": "/"}])
    ]
    tags: Annotated[Sequence[Mapping[str, object]], _described("Groups.", [{"name": "Usage"}])]
    paths: Annotated[Mapping[str, object], _described("The endpoints.", {})]
    components: Annotated[Mapping[str, object], _described("The types.", {})]
