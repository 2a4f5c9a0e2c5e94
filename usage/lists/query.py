"""Queries of lists: their parameters, read and checked together."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import django_filters  # type: ignore[import-untyped]
import orjson
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict

from usage.lists.pagination import DEFAULT_PAGE_SIZE
from usage.lists.parameters import CursorField, PageSizeField


class Parameter(django_filters.Filter):
    """A query parameter. `narrows` is the lookup by which it filters rows, if it filters any."""

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


class Query(django_filters.FilterSet):
    """The parameters of one query. A parameter that the class does not declare is an error."""

    def __init__(self, data: MultiValueDict[str, str], **defaults: Any) -> None:
        """Keep the texts of the parameters; `defaults` are the values of parameters without one.

        FilterSet.__init__ is not called: it copies every filter and makes a form for each request.
        Nothing here changes a filter or its field, so all queries share those of the class.
        """
        self.data = data
        self.defaults = defaults

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Return the value of each parameter; None if the query does not have it.

        Raises ValidationError with every fault of every parameter.
        """
        faults: dict[str, list[ValidationError]] = {}
        for name in self.data:
            if name not in self.base_filters:
                allowed = ", ".join(sorted(self.base_filters))
                hint = f"Allowed are {allowed}." if allowed else "Send none here."
                detail = f"Unknown parameter. {hint}"
                faults[name[:100]] = [ValidationError(detail, code="unknown")]
        parameters: dict[str, Any] = {}
        for name, parameter in self.base_filters.items():
            texts = self.data.getlist(name) if name in self.data else None
            try:
                parameters[name] = parameter.field.clean(texts)
            except ValidationError as fault:
                parameters[name] = None
                faults[name] = [fault]
        for name, value in self.defaults.items():
            if parameters.get(name) is None:
                parameters[name] = value
        for name, combination_fault in self.combination_faults(parameters):
            faults.setdefault(name, []).append(combination_fault)
        if faults:
            raise ValidationError(faults)
        return parameters

    def combination_faults(
        self, parameters: dict[str, Any]
    ) -> Iterator[tuple[str, ValidationError]]:
        """Yield the faults of parameters together. A parameter with a fault of its own is None."""
        yield from ()

    def fault(self, name: str, problem: str, *, code: str = "invalid") -> ValidationError:
        """Return the error that names the problem of a parameter and its allowed values."""
        return self.base_filters[name].field.fault(problem, code=code)

    @classmethod
    def narrowed(cls, queryset: QuerySet, parameters: Mapping[str, Any]) -> QuerySet:
        """Return the rows that satisfy every parameter."""
        for name, parameter in cls.base_filters.items():
            queryset = parameter.filter(queryset, parameters[name])
        return queryset

    def digest(self, *, name: str, columns: Sequence[str]) -> str:
        """Return a digest of the query of the list with this name: the same for the same values
        and order, however written.

        Pages of one query may differ in page_size and max_staleness.
        """
        ignored = {"page_size", "cursor", "max_staleness", "month", "period", "format"}
        values = {
            parameter: value
            for parameter, value in self.parameters.items()
            if value is not None and value is not False and parameter not in ignored
        }
        query = orjson.dumps([name, columns, values], default=str, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(query).hexdigest()[:32]


class PageFilter(Query):
    """The parameters that choose a page of a list."""

    page_size = Parameter(
        PageSizeField, help_text=f"Results per page, {DEFAULT_PAGE_SIZE} by default."
    )
    cursor = Parameter(CursorField, help_text="The page to return.")
