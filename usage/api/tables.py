"""A list as a table: every row of the query, flat, from one snapshot."""

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
    parameters: Mapping[str, Any],
    source: Source,
    *,
    size: int,
    limits: Limits | None = None,
) -> Generator[list["Row"]]:
    """Yield the rows in batches, with the columns of the endpoint and in the order of its pages.

    A batch holds the rows of at most `size` results. Raises the errors of read_batches.
    """
    statement = endpoint.statement(parameters, source, after=False)
    values = statement.filled({**parameters, ROW_LIMIT: None})
    with closing(read_batches(statement.sql, values, size=size, limits=limits)) as batches:
        for batch in batches:
            yield [line for row in batch for line in endpoint.lines(row, parameters)]
