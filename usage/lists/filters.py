"""The query parameters of each list."""

from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.datastructures import MultiValueDict

from usage.lists.bounds import MOST_IDS
from usage.lists.parameters import (
    ChoiceField,
    DayField,
    ExternalIdsField,
    MaxStalenessField,
    MonthField,
    PriceLimitField,
    SubscriptionIdField,
    SubscriptionIdsField,
    TrueFalseField,
    UsageTypeField,
)
from usage.lists.query import PageFilter, Parameter
from usage.selectors import month_end, whole_period

NAMES = ("subscription_id", "external_id")
ONLY_THESE = "Only these subscriptions."


class Format(StrEnum):
    """The format of a list."""

    JSON = "json"
    CSV = "csv"


class DailyOrdering(StrEnum):
    """The order of daily totals. Equal rows follow by subscription, day and usage type."""

    SUBSCRIPTION_ID = "subscription_id"
    DAY = "day"
    DAY_DESCENDING = "-day"
    TOTAL_PRICE = "total_price"
    TOTAL_PRICE_DESCENDING = "-total_price"


JSON, CSV = Format.JSON.value, Format.CSV.value


class ListFilter(PageFilter):
    """The parameters of every list."""

    max_staleness = Parameter(
        MaxStalenessField,
        help_text="The largest age of the totals. Older totals give a live response or a 503.",
    )
    format = Parameter(
        ChoiceField,
        values=Format,
        help_text="A page as JSON, or every row as CSV.",
    )

    def __init__(
        self,
        data: MultiValueDict[str, str],
        *,
        default_format: str = JSON,
        owner: int | None = None,
    ) -> None:
        """Keep the texts of the parameters.

        `default_format` is the format if the query has no parameter `format`. `owner` is the user
        whose subscriptions the caller may see; None: every subscription.
        """
        super().__init__(data, format=default_format, owner=owner)

    def combination_faults(
        self, parameters: dict[str, Any]
    ) -> Iterator[tuple[str, ValidationError]]:
        lists = [parameters.get(name) for name in NAMES]
        if all(isinstance(values, list) for values in lists):
            count = sum(len(values) for values in lists if values)
            if count > MOST_IDS:
                for name in NAMES:
                    yield name, self.fault(name, f"{count} values", code="too_many")
        if parameters["format"] == CSV:
            for name in PageFilter.base_filters:
                if name in self.data and name in self.base_filters:
                    yield (
                        name,
                        ValidationError("A CSV holds every row. Leave it out.", code="invalid"),
                    )


class UsageFilter(ListFilter):
    """Parameters that choose daily totals. A row must satisfy every parameter of the query, so
    subscription_id and external_id together select the subscriptions that are in both."""

    subscription_id = Parameter(
        SubscriptionIdsField, narrows="subscription_id__any", help_text=ONLY_THESE
    )
    external_id = Parameter(
        ExternalIdsField, narrows="subscription__external_id__any", help_text=ONLY_THESE
    )
    usage_type = Parameter(UsageTypeField, narrows="usage_type", help_text="Only this usage type.")
    from_date = Parameter(DayField, narrows="day__gte", help_text="The first day, included.")
    to_date = Parameter(DayField, narrows="day__lte", help_text="The last day, included.")
    month = Parameter(
        MonthField, help_text="Every day of a month, instead of from_date and to_date."
    )
    live = Parameter(
        TrueFalseField, help_text="Add up the raw records as they are at the moment of the request."
    )

    def combination_faults(
        self, parameters: dict[str, Any]
    ) -> Iterator[tuple[str, ValidationError]]:
        yield from super().combination_faults(parameters)
        if "month" in self.data and ("from_date" in self.data or "to_date" in self.data):
            yield "month", self.fault("month", "Given with from_date or to_date")
        first, last = parameters["from_date"], parameters["to_date"]
        if first and last and first > last:
            yield "from_date", self.fault("from_date", f"After to_date, which is {last}")

    @cached_property
    def parameters(self) -> dict[str, Any]:
        parameters = super().parameters
        if month := parameters["month"]:
            parameters |= {"from_date": month, "to_date": month_end(month)}
        return parameters


class TotalsFilter(UsageFilter):
    """Live totals need named subscriptions: without names each of many pages would read all raw
    records of the open days."""

    def combination_faults(
        self, parameters: dict[str, Any]
    ) -> Iterator[tuple[str, ValidationError]]:
        yield from super().combination_faults(parameters)
        if parameters["live"] and not any(name in self.data for name in NAMES):
            fault = "Name subscriptions (subscription_id, external_id) for a live answer."
            yield "live", ValidationError(fault, code="required")


class DailyFilter(TotalsFilter):
    ordering = Parameter(
        ChoiceField,
        values=DailyOrdering,
        help_text="The order of the rows, subscription_id by default.",
    )


class OverLimitFilter(UsageFilter):
    """Live totals need no names here: the subscriptions that reached a limit are worth one read of
    all raw records of the open days."""

    price_limit = Parameter(
        PriceLimitField, required=True, help_text="Only subscriptions that reached this price."
    )

    @cached_property
    def parameters(self) -> dict[str, Any]:
        parameters = super().parameters
        return parameters | {"period": whole_period(parameters["from_date"], parameters["to_date"])}


class RecordFilter(ListFilter):
    """The key of one daily total, whose raw records are returned."""

    subscription_id = Parameter(
        SubscriptionIdField, required=True, help_text="The subscription of the records."
    )
    usage_type = Parameter(
        UsageTypeField, required=True, help_text="The usage type of the records."
    )
    day = Parameter(DayField, required=True, help_text="The day of the records.")


class SubscriptionFilter(ListFilter):
    subscription_id = Parameter(SubscriptionIdsField, narrows="id__any", help_text=ONLY_THESE)
    external_id = Parameter(ExternalIdsField, narrows="external_id__any", help_text=ONLY_THESE)


class FileFilter(ListFilter):
    """The parameters of a file: none for pages or the format."""

    @classmethod
    def get_filters(cls) -> dict[str, Parameter]:
        left_out = {*PageFilter.base_filters, "format"}
        found = super().get_filters().items()
        return {name: parameter for name, parameter in found if name not in left_out}


def file_filter(filters: type[ListFilter]) -> type[ListFilter]:
    """Return the same parameters without those that a file does not have."""
    return type(f"{filters.__name__}OfFile", (FileFilter, filters), {})
