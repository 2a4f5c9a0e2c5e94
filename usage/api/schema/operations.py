"""What each operation of the API is asked and answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from usage.api import shapes
from usage.api.base import Endpoint
from usage.api.endpoints import Records, Subscriptions, TotalsEndpoint
from usage.api.filters import PageFilter, Parameter
from usage.api.lists import ListEndpoint
from usage.api.refreshes import Refresh, Refreshes
from usage.api.schema import answers, refusals
from usage.api.schema.refusals import Refusal
from usage.api.values import IDS, Schema

IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    {"type": "string", "examples": [answers.TAG]},
    OpenApiParameter.HEADER,
    description="The `ETag` of the answer you have. While that is the answer, you get a 304.",
)
RUN_ID = OpenApiParameter(
    "run_id",
    IDS.schema,
    OpenApiParameter.PATH,
    description="The `id` of a refresh.",
    examples=[OpenApiExample("a refresh", 1042)],
)


@dataclass(frozen=True)
class Operation:
    """One method of one endpoint: its parameters, its answers by status, and its refusals."""

    tag: str
    answers: Mapping[int, Schema]
    refusals: tuple[Refusal, ...]
    parameters: list[OpenApiParameter] = field(default_factory=list)


def operation_of(view: Endpoint, method: str, named: Callable[[type], Schema]) -> Operation:
    """`named` gives the reference to the schema of a TypedDict."""
    match view, method:
        case ListEndpoint(), _:
            return _of_list(view, named)
        case Refreshes(), "GET":
            return Operation(
                "Refreshes",
                {200: answers.page(shapes.Page, shapes.Run, named), 414: answers.TOO_LONG},
                (refusals.BAD_QUERY, *refusals.ANYWHERE, refusals.NOT_NOW),
                asked(PageFilter),
            )
        case Refreshes(), "POST":
            return Operation(
                "Refreshes",
                {202: answers.accepted(shapes.Run, named)},
                (*refusals.ANYWHERE, refusals.IN_PROGRESS, refusals.NO_WORKER_NOW),
            )
        case Refresh(), _:
            return Operation(
                "Refreshes",
                {200: answers.one(shapes.Run, named)},
                (*refusals.ANYWHERE, refusals.NO_SUCH_RUN, refusals.NOT_NOW),
                [RUN_ID],
            )
    return Operation(
        "This description",
        {200: answers.description()},
        (refusals.NOT_ACCEPTABLE, refusals.TOO_OFTEN),
    )


def _of_list(view: ListEndpoint, named: Callable[[type], Schema]) -> Operation:
    has_tag = isinstance(view, TotalsEndpoint)
    page = answers.page(shapes.UsagePage, view.shape, named)
    return Operation(
        "Subscriptions" if isinstance(view, Subscriptions) else "Usage",
        {200: answers.also_csv(page, view.columns, has_tag=has_tag)}
        | ({304: answers.NOT_MODIFIED} if has_tag else {})
        | {414: answers.TOO_LONG},
        (
            refusals.BAD_QUERY,
            *refusals.ANYWHERE,
            *([refusals.SUM_TOO_LARGE] if has_tag else []),
            *([refusals.RECORDS_DROPPED] if isinstance(view, Records) else []),
            refusals.NO_TOTALS_NOW,
        ),
        asked(view.filterset_class) + ([IF_NONE_MATCH] if has_tag else []),
    )


def asked(filters: type[PageFilter]) -> list[OpenApiParameter]:
    """The parameters of a query."""
    return [_parameter(name, each) for name, each in filters.base_filters.items()]


def _parameter(name: str, parameter: Parameter) -> OpenApiParameter:
    checks: Any = parameter.field
    is_many = checks.schema["type"] == "array"
    shown = [] if checks.example is None else [checks.example]
    return OpenApiParameter(
        name,
        checks.schema | ({"examples": shown} if shown else {}),
        required=checks.required,
        description=f"{checks.help_text} Give {checks.allowed}.",
        style="form" if is_many else None,
        explode=False if is_many else None,
        # A page to try it out fills these in, and few go with all the others.
        examples=[OpenApiExample("an example", shown[0])] if checks.required else [],
    )
