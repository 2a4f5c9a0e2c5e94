"""The base of every list: from the parameters of a query to its statement and its rows."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from usage import selectors
from usage.lists import filters
from usage.lists.pagination import CursorKey, paged, position_name
from usage.lists.statements import ROW_LIMIT, RequestValue, Statement
from usage.selectors import Rows, Source, TotalsState
from usage.services.exports import Limits, read_batches

# Parameters that do not choose rows.
NOT_IN_SQL = frozenset({"cursor", "page_size", "max_staleness", "live", "format"})

Row: TypeAlias = tuple[Any, ...]


class UsageList(ABC):
    """A list of usage. `parameters` are always the parameters of a query of its filter class."""

    filter_class: ClassVar[type[filters.ListFilter]]
    # The query of every row at once: filter_class without the parameters of a page.
    file_filter_class: ClassVar[type[filters.ListFilter]]
    # Parameters whose value changes the SQL. Only the presence of the others changes it.
    shaped_by: ClassVar[frozenset[str]] = frozenset()
    # The columns of a CSV or another table: the fields of a result if it is flat.
    columns: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "filter_class" in vars(cls):
            cls.file_filter_class = filters.file_filter(cls.filter_class)

    def source(self, parameters: Mapping[str, Any], state: TotalsState) -> Source:
        """Return the source of the rows. By default they are live, so never too old."""
        return Source.LIVE

    @abstractmethod
    def every_row(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        """Return the rows of a query, of any owner. A RequestValue may replace each value not in
        `shaped_by`."""

    def rows(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        """Return the rows of a query that the caller may see.

        In every list a subscription of another user is absent, exactly like a missing one.
        """
        rows = self.every_row(parameters, source)
        if (owner := parameters.get("owner")) is not None:
            rows = selectors.owned_by(rows=rows, owner=owner)
        return rows

    @abstractmethod
    def keys(self, parameters: Mapping[str, Any]) -> Sequence[CursorKey]:
        """Return the order of the rows, which ends with a unique key."""

    @abstractmethod
    def result(self, row: Row, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return one row as a result, with its fields by name."""

    def lines(self, row: Row, parameters: Mapping[str, Any]) -> Iterator[Row]:
        """Yield the lines of one row in a table with `columns`."""
        yield tuple(self.result(row, parameters).values())

    def days(self, parameters: Mapping[str, Any]) -> tuple[date | None, date | None]:
        """Return the first and the last requested day, both included; None where open."""
        return parameters.get("from_date"), parameters.get("to_date")

    def statement(self, parameters: Mapping[str, Any], source: Source, *, after: bool) -> Statement:
        """Return the statement of the first page, or of a page `after` a position. Queries that
        differ only in values share it, so it is compiled once."""
        used = tuple(
            (name, value if name in self.shaped_by else None)
            for name, value in parameters.items()
            if value is not None and name not in NOT_IN_SQL
        )
        own_class: Any = type(self)
        return _statement(own_class, used, source, after)

    def batches(
        self,
        parameters: Mapping[str, Any],
        source: Source,
        *,
        size: int,
        limits: Limits | None = None,
    ) -> Generator[list[Row]]:
        """Yield every row from one snapshot as lines with `columns`, in the order of the pages.

        A batch holds the lines of at most `size` rows. Raises the errors of read_batches.
        """
        statement = self.statement(parameters, source, after=False)
        values = statement.filled({**parameters, ROW_LIMIT: None})
        with closing(read_batches(statement.sql, values, size=size, limits=limits)) as batches:
            for batch in batches:
                yield [line for row in batch for line in self.lines(row, parameters)]


@lru_cache(maxsize=2000)
def _statement(
    list_class: type[UsageList], used: tuple[tuple[str, Any], ...], source: Source, after: bool
) -> Statement:
    """Compile the statement of the queries that use these parameters.

    `used` has the name of each parameter. Its value is None unless the value changes the SQL.
    """
    usage_list = list_class()
    parameters = dict.fromkeys(list_class.filter_class.base_filters)
    parameters |= {name: RequestValue(name) if value is None else value for name, value in used}
    # Named subscriptions are always looked up in the index, so one plan fits any of them.
    is_lookup = source is Source.DAILY and any(
        parameters.get(name) is not None for name in filters.NAMES
    )
    keys = usage_list.keys(parameters)
    position = [RequestValue(position_name(key)) for key in keys] if after else None
    rows = paged(usage_list.rows(parameters, source), keys, after=position)
    return Statement.of(rows, name=list_class.__name__.lower() if is_lookup else "")
