"""The operations of the API: their parameters and their responses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from usage.api import shapes
from usage.api.endpoint import Endpoint
from usage.api.list_endpoint import ListEndpoint
from usage.api.refreshes import Refresh, Refreshes
from usage.api.root import Root
from usage.api.schema import refusals, response_schemas
from usage.api.schema.refusals import Refusal
from usage.api.schema.response_schemas import Named
from usage.lists.all_lists import Records, Subscriptions, TotalsList
from usage.lists.bounds import IDS, Schema
from usage.lists.query import PageFilter, Parameter, Query

IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    {"type": "string", "examples": [response_schemas.TAG]},
    OpenApiParameter.HEADER,
    description="The `ETag` of a stored response. While it is current, the server returns a 304.",
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
    """One method of one endpoint: its parameters, its responses by status, and its refusals."""

    tag: str
    responses: Mapping[int, Schema]
    refusals: tuple[Refusal, ...]
    parameters: list[OpenApiParameter] = field(default_factory=list)


def operation_of(view: Endpoint, method: str, named: Named) -> Operation:
    """Return the operation; `named` returns references to the schemas of TypedDicts and enums."""
    match view, method:
        case ListEndpoint(), _:
            return _list_operation(view, named)
        case Refreshes(), "GET":
            return Operation(
                "Refreshes",
                {200: response_schemas.one(shapes.RunsPage, named)},
                (refusals.BAD_QUERY, *refusals.ANYWHERE, refusals.NOT_NOW),
                query_parameters(PageFilter, named),
            )
        case Refreshes(), "POST":
            return Operation(
                "Refreshes",
                {202: response_schemas.accepted(shapes.Run, named)},
                (
                    refusals.BAD_REQUEST,
                    *refusals.ANYWHERE,
                    refusals.IN_PROGRESS,
                    refusals.NOT_JSON,
                    refusals.NO_WORKER_NOW,
                ),
            )
        case Refresh(), _:
            return Operation(
                "Refreshes",
                {200: response_schemas.one(shapes.Run, named)},
                (
                    refusals.BAD_REQUEST,
                    *refusals.ANYWHERE,
                    refusals.NO_SUCH_RUN,
                    refusals.NOT_NOW,
                ),
                [RUN_ID],
            )
        case Root(), _:
            return Operation(
                "Description",
                {200: response_schemas.one(shapes.EndpointList, named)},
                (refusals.BAD_REQUEST, *refusals.OPEN_TO_ALL),
            )
    return Operation(
        "Description",
        {200: response_schemas.description(named)},
        (refusals.BAD_REQUEST, *refusals.OPEN_TO_ALL),
    )


def _list_operation(view: ListEndpoint, named: Named) -> Operation:
    has_tag = isinstance(view.usage_list, TotalsList)
    response = (
        response_schemas.csv(view.usage_list.columns, has_tag=has_tag)
        if view.is_file
        else response_schemas.one(view.shape, named, has_tag=has_tag)
    )
    return Operation(
        "Subscriptions" if isinstance(view.usage_list, Subscriptions) else "Usage",
        {200: response} | ({304: response_schemas.NOT_MODIFIED} if has_tag else {}),
        (
            refusals.BAD_QUERY,
            # The path of a file accepts every `Accept` header.
            *(each for each in refusals.ANYWHERE if not (view.is_file and each.status == 406)),
            *([refusals.SUM_TOO_LARGE] if has_tag else []),
            *([refusals.RECORDS_DROPPED] if isinstance(view.usage_list, Records) else []),
            refusals.NO_TOTALS_NOW,
        ),
        query_parameters(view.filter_class, named) + ([IF_NONE_MATCH] if has_tag else []),
    )


def query_parameters(query_class: type[Query], named: Named) -> list[OpenApiParameter]:
    """Return the parameters of a query. `format` is left out: a CSV is an operation of its own."""
    found = query_class.base_filters.items()
    return [_parameter(name, each, named) for name, each in found if name != "format"]


def _parameter(name: str, parameter: Parameter, named: Named) -> OpenApiParameter:
    checks: Any = parameter.field
    is_many = checks.schema["type"] == "array"
    shown = [] if checks.example is None else [checks.example]
    schema = checks.schema | ({"examples": shown} if shown else {})
    return OpenApiParameter(
        name,
        named(checks.values) if hasattr(checks, "values") else schema,
        required=checks.required,
        description=f"{checks.help_text} Give {checks.allowed}.",
        style="form" if is_many else None,
        explode=False if is_many else None,
        # The docs page fills examples into its form. Only required parameters have one here, since
        # few optional ones can be sent together.
        examples=[OpenApiExample("an example", shown[0])] if checks.required else [],
    )
