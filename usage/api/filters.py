"""FilterSets: query parameters in, narrowed querysets out."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import django_filters  # type: ignore[import-untyped]
import orjson
from django import forms
from django.core.exceptions import ValidationError as FormError
from django.db.models import QuerySet
from django.http import QueryDict
from rest_framework.exceptions import ErrorDetail, ValidationError

from usage.api import parameters
from usage.api.values import MOST_IDS
from usage.selectors import month_end, whole_period

NAMES = ("subscription_id", "external_id")
JSON, CSV = FORMATS = ("json", "csv")
OF_THESE = "Of these subscriptions alone."
DAILY_ORDERINGS = ("subscription_id", "day", "-day", "total_price", "-total_price")


class Parameter(django_filters.Filter):
    """A query parameter. It `narrows` by a lookup, or is only checked here and used elsewhere."""

    def __init__(
        self, field_class: type[forms.Field], *, narrows: str | None = None, **options: Any
    ) -> None:
        self.field_class = field_class
        self.narrows = narrows
        super().__init__(**options)

    def filter(self, queryset: QuerySet, value: Any) -> QuerySet:
        if self.narrows is None or value is None:
            return queryset
        return queryset.filter(**{self.narrows: value})


class PageFilter(django_filters.FilterSet):
    """What every list understands. A parameter it doesn't know is a fault."""

    page_size = Parameter(parameters.PageSizeField, help_text="Results on a page.")
    cursor = Parameter(parameters.CursorField, help_text="Which page.")

    def __init__(self, data: QueryDict, **otherwise: Any) -> None:
        """Not that of FilterSet, which copies every filter and makes a form for each request:
        nothing here changes a filter or its field, so the class has them once.

        `otherwise` is what is asked where no parameter says anything else.
        """
        self.data = data
        self.otherwise = otherwise

    @cached_property
    def asked(self) -> dict[str, Any]:
        """The meaning of each parameter, None where it wasn't given.

        Raises ValidationError with every fault of every parameter.
        """
        faults: dict[str, list[ErrorDetail]] = {}
        for name in self.data:
            if name not in self.base_filters:
                allowed = ", ".join(sorted(self.base_filters))
                detail = f"Unknown parameter. Allowed are {allowed}."
                faults[name[:100]] = [ErrorDetail(detail, code="unknown")]
        asked: dict[str, Any] = {}
        for name, parameter in self.base_filters.items():
            given = self.data.getlist(name) if name in self.data else None
            try:
                asked[name] = parameter.field.clean(given)
            except FormError as fault:
                asked[name] = None
                faults[name] = [_detail(fault)]
        for name, value in self.otherwise.items():
            if asked.get(name) is None:
                asked[name] = value
        for name, between in self.faults_between(asked):
            faults.setdefault(name, []).append(_detail(between))
        if faults:
            raise ValidationError(faults)
        return asked

    def faults_between(self, asked: dict[str, Any]) -> Iterator[tuple[str, FormError]]:
        """Faults that no parameter has alone; a parameter with a fault of its own is None."""
        yield from ()

    def fault(self, name: str, problem: str, *, code: str = "invalid") -> FormError:
        """What is wrong with a parameter, and what it allows."""
        return self.base_filters[name].field.fault(problem, code=code)

    @classmethod
    def narrowed(cls, queryset: QuerySet, asked: Mapping[str, Any]) -> QuerySet:
        """The rows of this queryset that are asked for."""
        for name, parameter in cls.base_filters.items():
            queryset = parameter.filter(queryset, asked[name])
        return queryset

    def digest(self, *, endpoint: str, columns: Sequence[str]) -> str:
        """Names the query: the same for the same question in the same order, however written.

        Pages of one query may differ in size and in how old they may be.
        """
        not_asked = {"page_size", "cursor", "max_staleness", "month", "period", "format"}
        question = {
            name: value
            for name, value in self.asked.items()
            if value is not None and value is not False and name not in not_asked
        }
        query = orjson.dumps(
            [endpoint, columns, question], default=str, option=orjson.OPT_SORT_KEYS
        )
        return hashlib.sha256(query).hexdigest()[:32]


class QueryFilter(PageFilter):
    """What every list of usage understands."""

    max_staleness = Parameter(
        parameters.MaxStalenessField, help_text="How old totals may be. Older ones: live, or a 503."
    )
    format = Parameter(
        parameters.ChoiceField,
        choices=FORMATS,
        help_text="A page of JSON, or a CSV with every row. It wins over `Accept`.",
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
            for name in ("page_size", "cursor"):
                if name in self.data:
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
        choices=DAILY_ORDERINGS,
        help_text=f"The order of the rows, {DAILY_ORDERINGS[0]} unless another is asked for.",
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


def _detail(fault: FormError) -> ErrorDetail:
    return ErrorDetail(str(fault.message), code=fault.code)
