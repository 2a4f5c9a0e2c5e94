"""The kinds of the columns of lists. A column name has the same kind in every list."""

from enum import Enum, auto


class Kind(Enum):
    """The kind of value in a column."""

    NUMBER = auto()
    MONEY = auto()
    DAY = auto()
    MOMENT = auto()
    WORD = auto()  # text that this project defines
    FOREIGN = auto()  # text that came from outside


KINDS = {
    "subscription_id": Kind.NUMBER,
    "day": Kind.DAY,
    "first_day": Kind.DAY,
    "last_day": Kind.DAY,
    "usage_type": Kind.WORD,
    "unit": Kind.WORD,
    "total_price": Kind.MONEY,
    "exceeded_by": Kind.MONEY,
    "price": Kind.MONEY,
    "total_usage": Kind.NUMBER,
    "record_count": Kind.NUMBER,
    "quantity": Kind.NUMBER,
    "last_usage_at": Kind.MOMENT,
    "usage_date": Kind.MOMENT,
    "created_at": Kind.MOMENT,
    "id": Kind.WORD,
    "external_id": Kind.FOREIGN,
}
