"""FilterSets: query parameters in, narrowed querysets out."""

import hashlib
import json
from calendar import monthrange
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import django_filters  # type: ignore[import-untyped]
from django import forms
from django.core.exceptions import ValidationError as FormError
from django.db.models import QuerySet
from rest_framework.exceptions import ErrorDetail, ValidationError

from usage.api import parameters
from usage.models import DailyUsage, DataUsageRecord, Subscription

NAMES = ("subscription_id", "external_id")
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


class QueryForm(forms.Form):
    """Faults that lie between parameters."""

    def clean(self) -> None:
        self._ids_are_few()
        if "month" not in self.fields:
            return
        if "month" in self.data and ("from_date" in self.data or "to_date" in self.data):
            self.add_error("month", self._fault("month", "Given with from_date or to_date"))
        first, last = self.cleaned_data.get("from_date"), self.cleaned_data.get("to_date")
        if first and last and first > last:
            self.add_error("from_date", self._fault("from_date", f"After to_date, which is {last}"))
        if month := self.cleaned_data.get("month"):
            self.cleaned_data["from_date"] = month
            self.cleaned_data["to_date"] = month.replace(day=monthrange(*month.timetuple()[:2])[1])

    def _ids_are_few(self) -> None:
        given = [self.cleaned_data.get(name) for name in NAMES]
        if not all(isinstance(values, list) for values in given):
            return
        count = sum(len(values) for values in given if values)
        if count > parameters.MOST_IDS:
            for name in NAMES:
                self.add_error(name, self._fault(name, f"{count} values", code="too_many"))

    def _fault(self, name: str, problem: str, code: str = "invalid") -> FormError:
        field = self.fields[name]
        assert isinstance(field, parameters.ParameterField)  # noqa: S101 - QueryFilter makes them
        return field.fault(problem, code=code)


class NamedLiveForm(QueryForm):
    """Lists of everybody are not live: each of many pages would read all open raw records."""

    def clean(self) -> None:
        super().clean()
        if self.cleaned_data.get("live") and not any(name in self.data for name in NAMES):
            fault = "Name subscriptions (subscription_id, external_id) for a live answer."
            self.add_error("live", FormError(fault, code="required"))


class QueryFilter(django_filters.FilterSet):
    """What every list understands. A parameter it doesn't know is a fault."""

    page_size = Parameter(parameters.PageSizeField)
    cursor = Parameter(parameters.CursorField)
    max_staleness = Parameter(parameters.MaxStalenessField)

    @cached_property
    def asked(self) -> dict[str, Any]:
        """The meaning of each parameter, None where it wasn't given.

        Raises ValidationError with every fault of every parameter.
        """
        faults: dict[str, list[ErrorDetail]] = {}
        for name in self.data:
            if name not in self.filters:
                allowed = ", ".join(sorted(self.filters))
                detail = f"Unknown parameter. Allowed are {allowed}."
                faults[name[:100]] = [ErrorDetail(detail, code="unknown")]
        for name, errors in self.errors.as_data().items():
            faults[name] = [ErrorDetail(str(error.message), code=error.code) for error in errors]
        if faults:
            raise ValidationError(faults)
        return self.form.cleaned_data

    def narrowed(self, queryset: QuerySet) -> QuerySet:
        """The rows of this queryset that the query asks for."""
        _ = self.asked
        return self.filter_queryset(queryset)

    def digest(self, *, endpoint: str, columns: Sequence[str]) -> str:
        """Names the query: the same for the same question in the same order, however written.

        Pages of one query may differ in size and in how old they may be.
        """
        not_asked = {"page_size", "cursor", "max_staleness", "month"}
        question = {
            name: value
            for name, value in self.asked.items()
            if value is not None and value is not False and name not in not_asked
        }
        query = json.dumps([endpoint, columns, question], default=str, sort_keys=True)
        return hashlib.sha256(query.encode()).hexdigest()[:32]


class TotalsFilter(QueryFilter):
    """Daily totals by subscription, type and days. A row must satisfy every parameter given, so
    subscription_id and external_id together name the subscriptions that are in both."""

    subscription_id = Parameter(parameters.SubscriptionIdsField, narrows="subscription_id__in")
    external_id = Parameter(parameters.ExternalIdsField, narrows="subscription__external_id__in")
    usage_type = Parameter(parameters.UsageTypeField, narrows="usage_type")
    from_date = Parameter(parameters.DayField, narrows="day__gte")
    to_date = Parameter(parameters.DayField, narrows="day__lte")
    month = Parameter(parameters.MonthField)
    live = Parameter(parameters.TrueFalseField)

    class Meta:
        model = DailyUsage
        fields: list[str] = []
        form: type[QueryForm] = NamedLiveForm


class DailyFilter(TotalsFilter):
    ordering = Parameter(parameters.ChoiceField, choices=DAILY_ORDERINGS)


class OverLimitFilter(TotalsFilter):
    price_limit = Parameter(parameters.PriceLimitField, required=True)

    class Meta(TotalsFilter.Meta):
        # Whoever reached a limit is worth one look at all open raw records.
        form = QueryForm


class RecordFilter(QueryFilter):
    """Names one daily total; the selector finds the records behind it."""

    subscription_id = Parameter(parameters.SubscriptionIdField, required=True)
    usage_type = Parameter(parameters.UsageTypeField, required=True)
    day = Parameter(parameters.DayField, required=True)

    class Meta:
        model = DataUsageRecord
        fields: list[str] = []
        form = QueryForm


class SubscriptionFilter(QueryFilter):
    subscription_id = Parameter(parameters.SubscriptionIdsField, narrows="id__in")
    external_id = Parameter(parameters.ExternalIdsField, narrows="external_id__in")

    class Meta:
        model = Subscription
        fields: list[str] = []
        form = QueryForm
