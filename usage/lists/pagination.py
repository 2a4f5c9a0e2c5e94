"""Pages by key: a page begins after the last row of the previous page, never at an offset."""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.signing import Signer
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Func, Q
from django.db.models.sql.compiler import SQLCompiler

from usage.lists.statements import ROW_LIMIT
from usage.selectors import Rows

DEFAULT_PAGE_SIZE = 100
LARGEST_PAGE_SIZE = 1000

# A salt of its own: a signature made for another purpose must not pass for a cursor.
_signer = Signer(salt="usage.api.cursor")


@dataclasses.dataclass(frozen=True)
class CursorKey:
    """A column of the order, and the function that reads its value from a cursor."""

    column: str
    read: Callable[[Any], Any] = lambda value: value
    descending: bool = False


@dataclasses.dataclass(frozen=True)
class Cursor:
    """The query of a page, and the keys of the last row before the page."""

    query: str
    position: list[Any]

    def sign(self) -> str:
        """Return an opaque text, the same for the same query and position."""
        return _signer.sign_object([self.query, self.position])

    @classmethod
    def unsign(cls, text: str) -> "Cursor":
        """Return the cursor of a signed text. Raises BadSignature for an invalid signature."""
        query, position = _signer.unsign_object(text)
        return cls(query, position)


@dataclasses.dataclass(frozen=True)
class Pager:
    """The page of one query, by its cursor and size.

    `keys` end with a unique key, because rows that are equal in all keys would be lost between
    pages. Raises ValidationError for `cursor` if the cursor belongs to another query.
    """

    keys: Sequence[CursorKey]
    query: str
    cursor: Cursor | None
    size: int

    def __post_init__(self) -> None:
        if self.cursor is not None and self.cursor.query != self.query:
            fault = (
                "The cursor belongs to another query. Repeat the parameters of the previous page, "
                "or leave the cursor out."
            )
            raise ValidationError({"cursor": ValidationError(fault, code="other_query")})

    @property
    def position(self) -> list[Any] | None:
        """Return the values of the keys in the last row before the page; None on the first page."""
        if self.cursor is None:
            return None
        return [key.read(value) for key, value in zip(self.keys, self.cursor.position, strict=True)]

    @property
    def values(self) -> dict[str, Any]:
        """Return the values for the statement of `paged`: the position before the page, and a limit
        of one row more than the page holds."""
        values = {ROW_LIMIT: self.size + 1}
        if (position := self.position) is not None:
            values |= zip(map(position_name, self.keys), position, strict=True)
        return values

    def cut(
        self, columns: list[str], found: list[tuple[Any, ...]]
    ) -> tuple[list[tuple[Any, ...]], Cursor | None]:
        """Return the rows of the page, and the cursor of the next page; None after the last."""
        if len(found) <= self.size:
            return found, None
        last = dict(zip(columns, found[self.size - 1], strict=True))
        position = [written(last[key.column]) for key in self.keys]
        return found[: self.size], Cursor(self.query, position)


class Behind(Func):
    """The row comparison (a, b) > (x, y): with an index on these columns, the scan begins there."""

    output_field = BooleanField()

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *_: Any, **__: Any
    ) -> tuple[str, tuple[Any, ...]]:
        parts: list[str] = []
        parameters: list[Any] = []
        for expression in self.get_source_expressions():
            part, its_parameters = compiler.compile(expression)
            parts.append(part)
            parameters += its_parameters
        half = len(parts) // 2
        return f"({', '.join(parts[:half])}) > ({', '.join(parts[half:])})", tuple(parameters)


def paged(rows: Rows, keys: Sequence[CursorKey], *, after: Sequence[Any] | None) -> Rows:
    """Return the rows in the order of the keys, only those after a position if one is named."""
    if after is not None:
        rows = rows.filter(rows_after(list(zip(keys, after, strict=True))))
    return rows.order_by(*(f"-{key.column}" if key.descending else key.column for key in keys))


def position_name(key: CursorKey) -> str:
    """Return the name of this column's value in the last row before the page."""
    return f"after_{key.column}"


def rows_after(position: Sequence[tuple[CursorKey, Any]]) -> Q | Behind:
    """Return the condition of rows after a position in the order of its keys.

    If the order has ascending and descending keys, the condition repeats the bound on the first
    key. The rest of the condition implies this bound, but only with it PostgreSQL uses an index.
    """
    if not any(key.descending for key, _ in position):
        return Behind(*(key.column for key, _ in position), *(value for _, value in position))
    (key, value), *rest = position
    strict = "lt" if key.descending else "gt"
    behind = Q((f"{key.column}__{strict}", value))
    if not rest:
        return behind
    bound = Q((f"{key.column}__{strict}e", value))
    return bound & (behind | Q(Q((key.column, value)), rows_after(rest)))


def written(value: Any) -> Any:
    """Return the value of a key in a type that JSON has, without loss."""
    match value:
        case Decimal():
            return format(value, "f")
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
        case _:
            return value
