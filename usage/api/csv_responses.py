"""A list as CSV: every row in one response, sent while the database returns them."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from threading import BoundedSemaphore
from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from usage.api.error_responses import Unavailable
from usage.lists.usage_list import UsageList
from usage.notation import moment_text
from usage.selectors import Source, TotalsState
from usage.services.exports import Limits
from usage.services.exports.csv_text import ROWS_PER_CHUNK, csv_chunks

_slots = BoundedSemaphore(settings.DOWNLOADS_PER_PROCESS)


class ChunksNeeded(APIException):
    """HTTP/1.0 has no chunks. Without them a client cannot detect that a response is incomplete."""

    status_code = 400
    default_code = "http_version"
    default_detail = "A CSV is sent in chunks, which HTTP/1.0 does not have. Use HTTP/1.1."


class Download:
    """The chunks of a CSV. The first one is computed at once, so that an error in the query becomes
    an error response: nothing has been sent yet."""

    def __init__(self, chunks: Generator[bytes]) -> None:
        self._chunks = chunks
        self._first = next(chunks)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks. If an error ends the rows early, it raises, and the server closes the
        connection before the last chunk. So the client detects that the file is incomplete."""
        yield self._first
        yield from self._chunks

    def close(self) -> None:
        self._chunks.close()


def respond(
    usage_list: UsageList,
    request: Request,
    parameters: Mapping[str, Any],
    state: TotalsState,
    source: Source,
) -> StreamingHttpResponse:
    """Return every row of the query, from one snapshot, in the order of the pages.

    Raises Unavailable if DOWNLOADS_PER_PROCESS downloads are running already.
    """
    if request.META["SERVER_PROTOCOL"] == "HTTP/1.0":
        raise ChunksNeeded
    # Without a timeout a client that reads nothing would hold the thread and its slot forever. The
    # web server resets the timeout of a connection for the next request.
    if (connection := request.META.get("gunicorn.socket")) is not None:
        connection.settimeout(settings.DOWNLOAD_IDLE_SECONDS)
    from_date, to_date = usage_list.days(parameters)
    name = [
        "usage",
        request.path.rstrip("/").rpartition("/")[2].removesuffix(".csv"),
        *([f"from-{from_date}"] if from_date else []),
        *([f"to-{to_date}"] if to_date else []),
    ]
    return StreamingHttpResponse(
        () if request.method == "HEAD" else Download(_chunks(usage_list, parameters, source)),
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{"-".join(name)}.csv"',
            "Usage-As-Of": moment_text(state.moment_of(source)),
            "Usage-Live": "true" if source is Source.LIVE else "false",
            "Usage-Time-Zone": state.time_zone,
            "Usage-Currency": settings.USAGE_CURRENCY,
        },
    )


def _chunks(
    usage_list: UsageList, parameters: Mapping[str, Any], source: Source
) -> Generator[bytes]:
    limits = Limits(
        statement=settings.DOWNLOAD_STATEMENT_TIMEOUT_SECONDS,
        idle=settings.DOWNLOAD_IDLE_SECONDS,
        whole=settings.DOWNLOAD_SECONDS,
    )
    batches = usage_list.batches(parameters, source, size=ROWS_PER_CHUNK, limits=limits)
    with _slot(), closing(batches):
        yield from csv_chunks(usage_list.columns, batches)


@contextmanager
def _slot() -> Iterator[None]:
    if not _slots.acquire(blocking=False):
        raise Unavailable(
            "The limit of CSV downloads at one time is reached. Try again when one has ended.",
            code="too_many_downloads",
            wait=30,
        )
    try:
        yield
    finally:
        _slots.release()
