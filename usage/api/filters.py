"""The questions that each list of usage answers."""

from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Any

from django.core.exceptions import ValidationError as FormError
from django.http import QueryDict

from usage.api import parameters
from usage.api.bounds import MOST_IDS
from usage.api.query import PageFilter, Parameter
from usage.selectors import month_end, whole_period

NAMES = ("subscription_id", "external_id")
OF_THESE = "Of these subscriptions alone."


class Format(StrEnum):
    """What an answer is written in."""

    JSON = "json"
    CSV = "csv"


class DailyOrdering(StrEnum):
    """The order of daily totals; ties by subscription, day and usage type."""

    SUBSCRIPTION_ID = "subscription_id"
    DAY = "day"
    DAY_DESCENDING = "-day"
    TOTAL_PRICE = "total_price"
    TOTAL_PRICE_DESCENDING = "-total_price"


JSON, CSV = Format.JSON.value, Format.CSV.value


class QueryFilter(PageFilter):
    """What every list of usage understands."""

    max_staleness = Parameter(
        parameters.MaxStalenessField, help_text="How old totals may be. Older ones: live, or a 503."
    )
    format = Parameter(
        parameters.ChoiceField,
        values=Format,
        help_text="A page of JSON, or the CSV of the path that ends with .csv. It wins over "
        "`Accept`.",
    )

    def __init__(
        self, data: QueryDict, *, format_accepted: str = JSON, owner: int | None = None
    ) -> None:
        """`format_accepted` is that of the answer unless the parameter `format` says another;
        `owner` is the user whose subscriptions alone may be seen, None where every one may.
        """
        super().__init__(data, format=format_accepted, owner=owner)

    def faults_between(self, asked: dict[str, Any]) -> Iterator[tuple[str, FormError]]:
        given = [asked.get(name) for name in NAMES]
        if all(isinstance(values, list) for values in given):
            count = sum(len(values) for values in given if values)
            if count > MOST_IDS:
                for name in NAMES:
                    yield name, self.fault(name, f"{count} values", code="too_many")
        if asked["format"] == CSV:
            for name in PageFilter.base_filters:
                if name in self.data and name in self.base_filters:
                    yield name, FormError("A CSV holds every row. Leave it out.", code="invalid")


class UsageFilter(QueryFilter):
    """Daily totals by subscription, type and days. A row must satisfy every parameter given, so
    subscription_id and external_id together name the subscriptions that are in both."""

    subscription_id = Parameter(
        parameters.SubscriptionIdsField, narrows="subscription_id__any", help_text=OF_THESE
    )
    external_id = Parameter(
        parameters.ExternalIdsField,
        narrows="subscription__external_id__any",
        help_text=OF_THESE,
    )
    usage_type = Parameter(
        parameters.UsageTypeField, narrows="usage_type", help_text="Of this type alone."
    )
    from_date = Parameter(
        parameters.DayField, narrows="day__gte", help_text="The first day, included."
    )
    to_date = Parameter(
        parameters.DayField, narrows="day__lte", help_text="The last day, included."
    )
    month = Parameter(parameters.MonthField, help_text="Short for the days of a month.")
    live = Parameter(
        parameters.TrueFalseField, help_text="Add up the records as they are at this moment."
    )

    def faults_between(self, asked: dict[str, Any]) -> Iterator[tuple[str, FormError]]:
        yield from super().faults_between(asked)
        if "month" in self.data and ("from_date" in self.data or "to_date" in self.data):
            yield "month", self.fault("month", "Given with from_date or to_date")
        first, last = asked["from_date"], asked["to_date"]
        if first and last and first > last:
            yield "from_date", self.fault("from_date", f"After to_date, which is {last}")

    @cached_property
    def asked(self) -> dict[str, Any]:
        asked = super().asked
        if month := asked["month"]:
            asked |= {"from_date": month, "to_date": month_end(month)}
        return asked


class TotalsFilter(UsageFilter):
    """Lists of everybody are not live: each of many pages would read all open raw records."""

    def faults_between(self, asked: dict[str, Any]) -> Iterator[tuple[str, FormError]]:
        yield from super().faults_between(asked)
        if asked["live"] and not any(name in self.data for name in NAMES):
            fault = "Name subscriptions (subscription_id, external_id) for a live answer."
            yield "live", FormError(fault, code="required")


class DailyFilter(TotalsFilter):
    ordering = Parameter(
        parameters.ChoiceField,
        values=DailyOrdering,
        help_text="The order of the rows, subscription_id unless another is sent.",
    )


class OverLimitFilter(UsageFilter):
    """Live of everybody too: whoever reached a limit is worth one look at all open raw records."""

    price_limit = Parameter(
        parameters.PriceLimitField, required=True, help_text="The price that must be reached."
    )

    @cached_property
    def asked(self) -> dict[str, Any]:
        asked = super().asked
        return asked | {"period": whole_period(asked["from_date"], asked["to_date"])}


class RecordFilter(QueryFilter):
    """Names one daily total; the selector finds the records behind it."""

    subscription_id = Parameter(
        parameters.SubscriptionIdField, required=True, help_text="Of which subscription."
    )
    usage_type = Parameter(parameters.UsageTypeField, required=True, help_text="Of which type.")
    day = Parameter(parameters.DayField, required=True, help_text="Of which day.")


class SubscriptionFilter(QueryFilter):
    subscription_id = Parameter(
        parameters.SubscriptionIdsField, narrows="id__any", help_text=OF_THESE
    )
    external_id = Parameter(
        parameters.ExternalIdsField, narrows="external_id__any", help_text=OF_THESE
    )


class EveryRow(QueryFilter):
    """The question of a file: without pages, and in one format."""

    @classmethod
    def get_filters(cls) -> dict[str, Parameter]:
        left_out = {*PageFilter.base_filters, "format"}
        found = super().get_filters().items()
        return {name: parameter for name, parameter in found if name not in left_out}


def of_every_row(filters: type[QueryFilter]) -> type[QueryFilter]:
    """The same question where the answer is a file."""
    return type(f"{filters.__name__}OfEveryRow", (EveryRow, filters), {})
