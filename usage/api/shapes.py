"""How answers look: the types of what is sent, and with them the schema that is published.

The name of a type here is its name in a generated client, so none is that of a type which such a
language has by itself, as Record in TypeScript.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, TypedDict
from uuid import UUID

from django.db.models import TextChoices

from usage.api.bounds import IDS, Schema
from usage.models import RefreshRun, UsageType


def _told(description: str, example: Any, **rules: Any) -> Schema:
    return {"description": description, "examples": [example], **rules}


def _one_of(values: type[StrEnum | TextChoices], example: str) -> Schema:
    """The rules of a value that is one of an enum, whose schema has a name of its own."""
    return {"enum": values, "examples": [example]}


def _moment(description: str, example: str) -> Schema:
    """The rules of a moment, which is text in the form of moment_text."""
    return _told(description, example, format="date-time")


_MONEY = {"format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}


class Unit(StrEnum):
    """The unit that quantities of a usage type are counted in."""

    KILOBYTES = "kilobytes"
    SECONDS = "seconds"


SubscriptionId = Annotated[int, _told("The subscription.", 1, **IDS.schema)]
Type = Annotated[str, _one_of(UsageType, "data")]
InUnit = Annotated[str, _one_of(Unit, "kilobytes")]
Price = Annotated[str, _told("The price, exactly.", "260.45193828", **_MONEY)]
Count = Annotated[int, _told("How many records were added up.", 488, minimum=1)]
Quantity = Annotated[int, _told("Kilobytes or seconds.", 19333449, minimum=0)]


class ExceededLimit(TypedDict):
    """A usage type whose price reached the limit."""

    usage_type: Type
    total_price: Price
    exceeded_by: Annotated[
        str, _told("What is above the limit; zero when it is met.", "110.45193828", **_MONEY)
    ]


class OverLimit(TypedDict):
    """A subscription that reached the limit, with each type by which it did."""

    subscription_id: SubscriptionId
    exceeded: Annotated[Sequence[ExceededLimit], {"minItems": 1}]


class TypeTotal(TypedDict):
    """What a subscription used of one type in the days."""

    subscription_id: SubscriptionId
    usage_type: Type
    unit: InUnit
    total_price: Price
    total_usage: Quantity
    record_count: Count
    first_day: Annotated[date, _told("The first day with usage.", "2026-11-01")]
    last_day: Annotated[date, _told("The last day with usage.", "2026-11-24")]


class DailyTotal(TypedDict):
    """What a subscription used of one type on one day."""

    subscription_id: SubscriptionId
    day: Annotated[date, _told("The day, in `time_zone`.", "2026-11-24")]
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

    id: Annotated[UUID, _told("The record.", "0195f3a2-6c1e-7cc4-8ad0-3f1b5c2d9e77")]
    usage_date: Annotated[str, _moment("When it was used.", "2026-11-24T09:12:54.000000Z")]
    price: Annotated[str, _told("The price; below zero for a credit.", "0.03125", **_MONEY)]
    quantity: Quantity
    unit: InUnit


class Subscription(TypedDict):
    """A subscription that usage is charged to."""

    subscription_id: SubscriptionId
    external_id: Annotated[str, _told("Its name elsewhere.", "sub-000001")]
    created_at: Annotated[str, _moment("When it was made.", "2026-11-01T08:00:00.000000Z")]


NextPage = Annotated[str | None, _told("The next page; null after the last.", None, format="uri")]


class Envelope(TypedDict):
    """The fields around the results of a list of usage."""

    as_of: Annotated[
        str,
        _moment("Every record committed by then is in the answer.", "2026-11-24T11:37:17.214829Z"),
    ]
    live: Annotated[bool, _told("Whether the rows were read as they are now.", False)]
    time_zone: Annotated[str, _told("The zone in which days are cut.", "UTC")]
    currency: Annotated[str, _told("ISO 4217, of every price.", "USD", pattern="^[A-Z]{3}$")]
    from_date: Annotated[date | None, _told("The first day asked for; null: open.", "2026-11-01")]
    to_date: Annotated[date | None, _told("The last day asked for; null: open.", "2026-11-30")]
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
    """One refresh or audit. A queued one has not begun."""

    id: Annotated[int, _told("Names it.", 1042, **IDS.schema)]
    trigger: Annotated[str, _one_of(RefreshRun.Trigger, "api")]
    status: Annotated[str, _one_of(RefreshRun.Status, "success")]
    started_at: Annotated[
        str,
        _moment("When it began or, while queued, was asked for.", "2026-11-24T14:40:12.500000Z"),
    ]
    finished_at: Annotated[
        str | None, _moment("When it ended; null until then.", "2026-11-24T14:40:12.700000Z")
    ]
    as_of: Annotated[
        str | None, _moment("What totals are as of after it.", "2026-11-24T14:40:12.600000Z")
    ]
    open_rows: Annotated[int | None, _told("Rows of the open days after it.", 386)]
    rows_changed: Annotated[int | None, _told("Rows of the open days it wrote.", 2)]
    keys_repaired: Annotated[int, _told("Late totals computed again.", 0)]
    days_sealed: Annotated[int, _told("Days it sealed.", 0)]
    sealed_before: Annotated[
        date | None, _told("Days before it are sealed; null: none is.", "2026-11-23")
    ]
    subscriptions_audited: Annotated[
        int | None, _told("Of an audit: how many were compared; null: every one.", None)
    ]
    keys_differing: Annotated[int | None, _told("Of an audit: totals that differed.", None)]
    phases: Annotated[Mapping[str, float], _told("Seconds by phase.", {"lock": 0.001})]
    error: Annotated[str, _told("Why it failed or was skipped.", "")]
    remark: Annotated[
        str, _told("What a run that succeeded found and mended, or could not finish.", "")
    ]


class RunsPage(TypedDict):
    """A page of refreshes, the newest first."""

    next: NextPage
    results: Sequence[Run]


class EndpointLine(TypedDict):
    """One endpoint of the API."""

    path: Annotated[str, _told("Its path.", "/api/v1/usage/totals/")]
    methods: Annotated[Sequence[str], _told("The methods it takes.", ["GET"])]
    description: Annotated[
        str, _told("Its subject.", "Totals by subscription and usage type over the days.")
    ]


class EndpointList(TypedDict):
    """The endpoints of the API."""

    endpoints: Annotated[Sequence[EndpointLine], {"minItems": 1}]


class OpenApiDocument(TypedDict):
    """A description of the API in OpenAPI 3.1."""

    openapi: Annotated[str, _told("The version of OpenAPI.", "3.1.0")]
    info: Annotated[Mapping[str, object], _told("Title, version and licence.", {"title": "Usage"})]
    servers: Annotated[
        Sequence[Mapping[str, object]], _told("The addresses of the server.", [{"url": "/"}])
    ]
    tags: Annotated[Sequence[Mapping[str, object]], _told("Groups.", [{"name": "Usage"}])]
    paths: Annotated[Mapping[str, object], _told("The endpoints.", {})]
    components: Annotated[Mapping[str, object], _told("The types.", {})]
