"""The types of responses, from which the description of the API is made.

Their names are those of types in a generated client, like those of usage.lists.result_types.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, TypedDict

from usage.lists.bounds import IDS
from usage.lists.result_types import (
    DailyTotal,
    OverLimit,
    Subscription,
    TypeTotal,
    UsageRecord,
    described,
    moment,
    one_of,
)
from usage.models import RefreshRun

NextPage = Annotated[
    str | None,
    described("The URL of the next page; null after the last page.", None, format="uri"),
]


class Envelope(TypedDict):
    """The fields around the results of a list of usage."""

    as_of: Annotated[
        str,
        moment(
            "Every record committed by this moment is in the response.",
            "2026-11-24T11:37:17.214829Z",
        ),
    ]
    live: Annotated[
        bool, described("Whether the rows were read at the moment of the request.", False)
    ]
    time_zone: Annotated[str, described("The zone in which days are cut.", "UTC")]
    currency: Annotated[str, described("ISO 4217, of every price.", "USD", pattern="^[A-Z]{3}$")]
    from_date: Annotated[
        date | None, described("The first requested day; null if open.", "2026-11-01")
    ]
    to_date: Annotated[
        date | None, described("The last requested day; null if open.", "2026-11-30")
    ]
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
    """A run: one refresh or audit. A queued run has not begun."""

    id: Annotated[int, described("The number of the run.", 1042, **IDS.schema)]
    trigger: Annotated[str, one_of(RefreshRun.Trigger, "api")]
    status: Annotated[str, one_of(RefreshRun.Status, "success")]
    started_at: Annotated[
        str,
        moment(
            "When the run began; while it is queued, when it was requested.",
            "2026-11-24T14:40:12.500000Z",
        ),
    ]
    finished_at: Annotated[
        str | None, moment("When the run ended; null until then.", "2026-11-24T14:40:12.700000Z")
    ]
    as_of: Annotated[
        str | None,
        moment("The `as_of` of the totals after the run.", "2026-11-24T14:40:12.600000Z"),
    ]
    open_rows: Annotated[int | None, described("Daily totals of the open days after the run.", 386)]
    rows_changed: Annotated[
        int | None, described("Daily totals of the open days that the run changed.", 2)
    ]
    keys_repaired: Annotated[int, described("Late keys whose totals the run computed again.", 0)]
    days_sealed: Annotated[int, described("Days that the run sealed.", 0)]
    sealed_before: Annotated[
        date | None,
        described("The watermark: days before it are sealed; null if none is.", "2026-11-23"),
    ]
    subscriptions_audited: Annotated[
        int | None,
        described("For an audit, how many subscriptions it compared; null if all.", None),
    ]
    keys_differing: Annotated[
        int | None, described("For an audit, how many totals differed.", None)
    ]
    phases: Annotated[Mapping[str, float], described("The seconds of each phase.", {"lock": 0.001})]
    error: Annotated[str, described("Why the run failed or was skipped.", "")]
    remark: Annotated[
        str,
        described("Problems that a successful run found and repaired, or could not finish.", ""),
    ]


class RunsPage(TypedDict):
    """A page of refreshes, the newest first."""

    next: NextPage
    results: Sequence[Run]


class EndpointLine(TypedDict):
    """One endpoint of the API."""

    path: Annotated[str, described("The path of the endpoint.", "/api/v1/usage/totals/")]
    methods: Annotated[Sequence[str], described("The methods that it allows.", ["GET"])]
    description: Annotated[
        str,
        described(
            "The subject of the endpoint.", "Totals by subscription and usage type over the days."
        ),
    ]


class EndpointList(TypedDict):
    """The endpoints of the API."""

    endpoints: Annotated[Sequence[EndpointLine], {"minItems": 1}]


class OpenApiDocument(TypedDict):
    """A description of the API in OpenAPI 3.1."""

    openapi: Annotated[str, described("The version of OpenAPI.", "3.1.0")]
    info: Annotated[
        Mapping[str, object], described("Title, version and licence.", {"title": "Usage"})
    ]
    servers: Annotated[
        Sequence[Mapping[str, object]], described("The addresses of the server.", [{"url": "/"}])
    ]
    tags: Annotated[Sequence[Mapping[str, object]], described("Groups.", [{"name": "Usage"}])]
    paths: Annotated[Mapping[str, object], described("The endpoints.", {})]
    components: Annotated[Mapping[str, object], described("The types.", {})]
