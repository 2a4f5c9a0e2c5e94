"""A list as CSV: every row in one answer, sent as the database gives them."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import StreamingHttpResponse
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from usage.api.error_responses import Unavailable
from usage.api.tables import flat_batches
from usage.selectors import Source, TotalsState
from usage.services.exports import Limits
from usage.services.exports.csv_text import csv_chunks
from usage.services.notation import moment_text

if TYPE_CHECKING:
    from usage.api.lists import ListEndpoint

ROWS_PER_CHUNK = 5000

_places = BoundedSemaphore(settings.DOWNLOADS_PER_PROCESS)


class ChunksNeeded(APIException):
    """In HTTP/1.0 half of an answer whose length nobody knows beforehand looks like all of it."""

    status_code = 400
    default_code = "http_version"
    default_detail = "A CSV is sent in chunks, which HTTP/1.0 does not have. Use HTTP/1.1."


class Download:
    """The chunks of a CSV. The first is there already: what is wrong with the question shows
    before anything is sent, and whoever made this can still say so."""

    def __init__(self, chunks: Generator[bytes]) -> None:
        self._chunks = chunks
        self._first = next(chunks)

    def __iter__(self) -> Iterator[bytes]:
        """Raises when the rows end early; the server then breaks the connection, which is how a
        client knows that the answer is not whole."""
        yield self._first
        yield from self._chunks

    def close(self) -> None:
        self._chunks.close()


def answer(
    endpoint: "ListEndpoint",
    request: Request,
    asked: Mapping[str, Any],
    state: TotalsState,
    source: Source,
) -> StreamingHttpResponse:
    """Every row that is asked for, of one snapshot, in the order of the pages.

    Raises Unavailable when as many as may are being sent already.
    """
    if request.META["SERVER_PROTOCOL"] == "HTTP/1.0":
        raise ChunksNeeded
    # Else a client that takes nothing would hold the thread and its place for ever. The web server
    # sets its connections anew for the next request.
    if (connection := request.META.get("gunicorn.socket")) is not None:
        connection.settimeout(settings.DOWNLOAD_IDLE_SECONDS)
    from_date, to_date = endpoint.days(asked)
    name = [
        "usage",
        request.path.rstrip("/").rpartition("/")[2].removesuffix(".csv"),
        *([f"from-{from_date}"] if from_date else []),
        *([f"to-{to_date}"] if to_date else []),
    ]
    return StreamingHttpResponse(
        () if request.method == "HEAD" else Download(_chunks(endpoint, asked, source)),
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{"-".join(name)}.csv"',
            "Usage-As-Of": moment_text(state.moment_of(source)),
            "Usage-Live": "true" if source is Source.LIVE else "false",
            "Usage-Time-Zone": state.time_zone,
            "Usage-Currency": settings.USAGE_CURRENCY,
        },
    )


def _chunks(endpoint: "ListEndpoint", asked: Mapping[str, Any], source: Source) -> Generator[bytes]:
    limits = Limits(
        statement=settings.DOWNLOAD_STATEMENT_TIMEOUT_SECONDS,
        idle=settings.DOWNLOAD_IDLE_SECONDS,
        whole=settings.DOWNLOAD_SECONDS,
    )
    batches = flat_batches(endpoint, asked, source, size=ROWS_PER_CHUNK, limits=limits)
    with _place(), closing(batches):
        yield from csv_chunks(endpoint.columns, batches)


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(blocking=False):
        raise Unavailable(
            "As many CSVs as may are being sent already. Try again when one has ended.",
            code="too_many_downloads",
            wait=30,
        )
    try:
        yield
    finally:
        _places.release()
