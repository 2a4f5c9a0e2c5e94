"""A list as a table: every row that is asked for, flat, of one snapshot."""

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from usage.api.statements import ROW_LIMIT
from usage.selectors import Source
from usage.services.exports import Limits, read_batches

if TYPE_CHECKING:
    from usage.api.lists import ListEndpoint, Row


def flat_batches(
    endpoint: "ListEndpoint",
    asked: Mapping[str, Any],
    source: Source,
    *,
    size: int,
    limits: Limits | None = None,
) -> Generator[list["Row"]]:
    """The rows, with the columns of the endpoint and in the order of its pages, those of at most
    `size` results at a time. Raises as read_batches does."""
    statement = endpoint.statement(asked, source, after=False)
    parameters = statement.filled({**asked, ROW_LIMIT: None})
    with closing(read_batches(statement.sql, parameters, size=size, limits=limits)) as batches:
        for batch in batches:
            yield [line for row in batch for line in endpoint.lines(row, asked)]
