"""A question: the parameters of a request, read and checked together."""

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
from rest_framework.request import Request

from usage.api import parameters
from usage.api.pagination import DEFAULT_PAGE_SIZE


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


class Question(django_filters.FilterSet):
    """The parameters of one request. One that the class doesn't name is a fault."""

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
                hint = f"Allowed are {allowed}." if allowed else "Send none here."
                detail = f"Unknown parameter. {hint}"
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


class PageFilter(Question):
    """Which page of a list."""

    page_size = Parameter(
        parameters.PageSizeField,
        help_text=f"Results on a page, {DEFAULT_PAGE_SIZE} unless another number is sent.",
    )
    cursor = Parameter(parameters.CursorField, help_text="Which page.")


class NoParameters(Question):
    """A request that has no parameters."""


def refuse_parameters(request: Request) -> None:
    """Raises ValidationError that names every parameter of the address: there is none here."""
    _ = NoParameters(request.query_params).asked


def _detail(fault: FormError) -> ErrorDetail:
    return ErrorDetail(str(fault.message), code=fault.code)
