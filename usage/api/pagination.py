"""Pages by key: a page begins behind the last row of the page before, never at an offset."""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.signing import Signer
from django.db.models import Q
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from usage.api.statements import ROW_LIMIT, Asked
from usage.selectors import Behind, Rows

DEFAULT_PAGE_SIZE = 100
LARGEST_PAGE_SIZE = 1000

# Not SIGNED_COOKIES or the like: a signature made elsewhere must not pass for a cursor.
_signer = Signer(salt="usage.api.cursor")


@dataclasses.dataclass(frozen=True)
class CursorKey:
    """A column of the order and how its value is read back from a cursor."""

    column: str
    read: Callable[[Any], Any] = lambda value: value
    descending: bool = False


@dataclasses.dataclass(frozen=True)
class Cursor:
    """The query a page belongs to, and the keys of the last row before the page."""

    query: str
    position: list[Any]

    def sign(self) -> str:
        """An opaque text, the same for the same query and position."""
        return _signer.sign_object([self.query, self.position])

    @classmethod
    def unsign(cls, text: str) -> "Cursor":
        """The cursor of a signed text. Raises BadSignature when it isn't one of ours."""
        query, position = _signer.unsign_object(text)
        return cls(query, position)


@dataclasses.dataclass(frozen=True)
class Pager:
    """Cuts the answer to one query into pages.

    `keys` end with a unique key, or rows that are equal in them would be lost between pages.
    Raises ValidationError, naming `cursor`, when the cursor belongs to another query.
    """

    keys: Sequence[CursorKey]
    query: str
    cursor: Cursor | None
    size: int

    def __post_init__(self) -> None:
        if self.cursor is not None and self.cursor.query != self.query:
            fault = "Of another query. Repeat the parameters of the page before, or leave it out."
            raise ValidationError({"cursor": [ErrorDetail(fault, code="other_query")]})

    @property
    def values(self) -> dict[str, Any]:
        """What `paged` leaves open: where the page begins, and one row more than it holds."""
        position = self.cursor.position if self.cursor is not None else []
        after = {
            position_name(key): key.read(value)
            for key, value in zip(self.keys, position, strict=bool(position))
        }
        return {ROW_LIMIT: self.size + 1, **after}

    def cut(
        self, columns: list[str], found: list[tuple[Any, ...]]
    ) -> tuple[list[tuple[Any, ...]], Cursor | None]:
        """The rows of the page, and the cursor of the next page or None after the last."""
        if len(found) <= self.size:
            return found, None
        last = dict(zip(columns, found[self.size - 1], strict=True))
        position = [written(last[key.column]) for key in self.keys]
        return found[: self.size], Cursor(self.query, position)


def paged(rows: Rows, keys: Sequence[CursorKey], *, after: bool) -> Rows:
    """The rows in the order of the keys, and `after` a position that is Asked."""
    if after:
        rows = rows.filter(rows_after([(key, Asked(position_name(key))) for key in keys]))
    return rows.order_by(*(f"-{key.column}" if key.descending else key.column for key in keys))


def position_name(key: CursorKey) -> str:
    """The name of the value that the last row before the page has in this column."""
    return f"after_{key.column}"


def rows_after(position: Sequence[tuple[CursorKey, Any]]) -> Q | Behind:
    """The condition of rows behind a position in the order of its keys.

    Where an order goes both ways, the bound on the first key follows from the rest; it is there
    because an index can use it.
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
    """The value of a key as JSON can hold it, without loss."""
    match value:
        case Decimal():
            return format(value, "f")
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
        case _:
            return value


def next_url(request: Request, cursor: Cursor) -> str:
    """The absolute address of the page a cursor leads to."""
    parameters = request.query_params.copy()
    parameters["cursor"] = cursor.sign()
    return request.build_absolute_uri(f"{request.path}?{parameters.urlencode(safe=',')}")
