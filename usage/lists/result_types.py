"""The types of results, from which the description of the API is made.

The name of a type here is its name in a generated client. So no name is that of a built-in type of
a client's language, such as Record in TypeScript.
"""

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated, TypedDict
from uuid import UUID

from django.db.models import TextChoices

from usage.lists.bounds import IDS, Schema
from usage.models import UsageType


def described(description: str, example: object, **rules: object) -> Schema:
    """Return the rules of a value, with its description and an example."""
    return {"description": description, "examples": [example], **rules}


def one_of(values: type[StrEnum | TextChoices], example: str) -> Schema:
    """Return the rules of a value of an enum, whose schema has a name of its own."""
    return {"enum": values, "examples": [example]}


def moment(description: str, example: str) -> Schema:
    """Return the rules of a moment, which is text in the format of moment_text."""
    return described(description, example, format="date-time")


MONEY = {"format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}


class Unit(StrEnum):
    """The unit in which quantities of a usage type are counted."""

    KILOBYTES = "kilobytes"
    SECONDS = "seconds"


SubscriptionId = Annotated[int, described("The subscription.", 1, **IDS.schema)]
Type = Annotated[str, one_of(UsageType, "data")]
InUnit = Annotated[str, one_of(Unit, "kilobytes")]
Price = Annotated[str, described("The price, exactly.", "260.45193828", **MONEY)]
Count = Annotated[int, described("The number of raw records in the total.", 488, minimum=1)]
Quantity = Annotated[int, described("Kilobytes or seconds.", 19333449, minimum=0)]


class ExceededLimit(TypedDict):
    """A usage type whose price reached the limit."""

    usage_type: Type
    total_price: Price
    exceeded_by: Annotated[
        str,
        described("The price minus the limit; zero if they are equal.", "110.45193828", **MONEY),
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
    first_day: Annotated[date, described("The first day with usage.", "2026-11-01")]
    last_day: Annotated[date, described("The last day with usage.", "2026-11-24")]


class DailyTotal(TypedDict):
    """The total of one subscription and usage type on one day."""

    subscription_id: SubscriptionId
    day: Annotated[date, described("The day, in `time_zone`.", "2026-11-24")]
    usage_type: Type
    unit: InUnit
    total_price: Price
    total_usage: Quantity
    record_count: Count
    last_usage_at: Annotated[
        str, moment("The moment of the newest record.", "2026-11-24T09:12:54.000000Z")
    ]


class UsageRecord(TypedDict):
    """One raw record."""

    id: Annotated[UUID, described("The id of the record.", "0195f3a2-6c1e-7cc4-8ad0-3f1b5c2d9e77")]
    usage_date: Annotated[str, moment("The moment of the usage.", "2026-11-24T09:12:54.000000Z")]
    price: Annotated[str, described("The price; below zero for a credit.", "0.03125", **MONEY)]
    quantity: Quantity
    unit: InUnit


class Subscription(TypedDict):
    """A subscription that usage is charged to."""

    subscription_id: SubscriptionId
    external_id: Annotated[
        str, described("The name of the subscription in other systems.", "sub-000001")
    ]
    created_at: Annotated[
        str, moment("When the subscription was created.", "2026-11-01T08:00:00.000000Z")
    ]
