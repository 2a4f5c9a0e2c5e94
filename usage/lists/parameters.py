"""Query parameters: the values that each allows. Every error names the allowed values."""

import re
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.signing import BadSignature
from django.db.models import TextChoices

from usage.lists.bounds import (
    DAY_PATTERN,
    IDS,
    LONGEST_EXTERNAL_ID,
    MONTH_PATTERN,
    MOST_IDS,
    PAGE_SIZES,
    PRICE_DECIMALS,
    PRICE_DIGITS,
    PRICE_PATTERN,
    STALENESS,
    Schema,
    many,
)
from usage.lists.pagination import Cursor
from usage.models import UsageType
from usage.selectors import FIRST_DAY, LAST_DAY


def shown(value: str) -> str:
    """Return the value as an error quotes it: never more than forty characters."""
    return f"'{value}'" if len(value) <= 40 else f"'{value[:40]}...'"


class ParameterField(forms.Field):
    """A parameter with one value. A subclass reads the value, and describes the allowed values in
    words (`allowed`), as a JSON schema and by an example.

    `clean` takes all values of the parameter, to detect a repeated one; None if the request does
    not have the parameter.
    """

    allowed: str
    schema: Schema
    example: Any

    def clean(self, texts: list[str] | None) -> Any:
        if texts is None:
            if self.required:
                raise self.fault("Missing", code="required")
            return None
        if len(texts) > 1:
            raise self.fault(f"Given {len(texts)} times where one is expected", code="repeated")
        return self.read_or_raise(texts[0])

    def read_or_raise(self, value: str) -> Any:
        if not value:
            raise self.fault("Empty", code="blank")
        if value != value.strip(" "):
            hint = "In an address a + is a blank: write %2B for a +"
            raise self.fault(f"{shown(value)} begins or ends with a blank. {hint}", code="invalid")
        read = self.read(value)
        if read is None:
            raise self.fault(f"{shown(value)} is not allowed", code="invalid")
        return read

    def read(self, value: str) -> Any:
        """Return the value of the text, or None if it is not allowed."""
        raise NotImplementedError

    def fault(self, problem: str, *, code: str) -> ValidationError:
        return ValidationError(f"{problem}. Give {self.allowed}.", code=code)


class ManyField(ParameterField):
    """A parameter that may be repeated and comma-separated, read as a sorted list of distinct
    values."""

    def clean(self, texts: list[str] | None) -> list[Any] | None:
        if texts is None:
            return None
        values = [self.read_or_raise(value) for text in texts for value in text.split(",")]
        if len(values) > MOST_IDS:
            raise self.fault(f"{len(values)} values", code="too_many")
        return sorted(set(values))


class SubscriptionIdField(ParameterField):
    allowed = f"one whole number from {IDS.least} to {IDS.most}"
    schema = IDS.schema
    example = 1

    def read(self, value: str) -> int | None:
        return IDS.read(value)


class SubscriptionIdsField(ManyField):
    allowed = (
        f"whole numbers from {IDS.least} to {IDS.most}, comma-separated or repeated, at most "
        f"{MOST_IDS} together with external_id"
    )
    schema = many(IDS.schema)
    example = [1, 2]

    def read(self, value: str) -> int | None:
        return IDS.read(value)


class ExternalIdsField(ManyField):
    allowed = (
        f"external ids of at most {LONGEST_EXTERNAL_ID} characters, comma-separated or repeated, "
        f"at most {MOST_IDS} together with subscription_id"
    )
    schema = many(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_EXTERNAL_ID,
            "pattern": r"^[^ ,\u0000]([^,\u0000]*[^ ,\u0000])?$",
        }
    )
    example = ["sub-000001", "sub-000002"]

    def read(self, value: str) -> str | None:
        return value if len(value) <= LONGEST_EXTERNAL_ID and "\0" not in value else None


class UsageTypeField(ParameterField):
    allowed = " or ".join(UsageType.values)
    schema = {"type": "string", "enum": UsageType.values}
    values: type[StrEnum | TextChoices] = UsageType
    example = UsageType.DATA.value

    def read(self, value: str) -> UsageType | None:
        return UsageType(value) if value in UsageType.values else None


class DayField(ParameterField):
    allowed = f"a day as YYYY-MM-DD, from {FIRST_DAY} to {LAST_DAY}"
    schema = {"type": "string", "format": "date", "pattern": f"^{DAY_PATTERN}$"}
    example = "2026-11-01"

    def read(self, value: str) -> date | None:
        if not re.fullmatch(DAY_PATTERN, value):
            return None
        try:
            day = date.fromisoformat(value)
        except ValueError:
            return None
        return day if FIRST_DAY <= day <= LAST_DAY else None


class MonthField(DayField):
    """A month, read as its first day."""

    allowed = (
        f"a month as YYYY-MM, from {FIRST_DAY:%Y-%m} to {LAST_DAY:%Y-%m}, "
        "without from_date and to_date"
    )
    schema = {"type": "string", "pattern": f"^{MONTH_PATTERN}$"}
    example = "2026-11"

    def read(self, value: str) -> date | None:
        return super().read(f"{value}-01")


class PriceLimitField(ParameterField):
    allowed = (
        f"a plain decimal number from 0, such as 25 or 0.005, with at most {PRICE_DIGITS} digits "
        f"before and {PRICE_DECIMALS} after the point"
    )
    schema = {"type": "string", "format": "decimal", "pattern": f"^{PRICE_PATTERN}$"}
    example = "150"

    def read(self, value: str) -> Decimal | None:
        if not re.fullmatch(PRICE_PATTERN, value):
            return None
        return Decimal(value.rstrip("0").rstrip(".") if "." in value else value)


class ChoiceField(ParameterField):
    """One of the values of an enum."""

    def __init__(self, *, values: type[StrEnum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values = values
        *_, self.example = choices = [each.value for each in values]
        self.allowed = f"one of {', '.join(choices)}"
        self.schema = {"type": "string", "enum": choices}

    def read(self, value: str) -> str | None:
        return value if value in self.schema["enum"] else None


class PageSizeField(ParameterField):
    allowed = f"a whole number from {PAGE_SIZES.least} to {PAGE_SIZES.most}"
    # The schema has no default: a generated client would send it with every request.
    schema = PAGE_SIZES.schema
    example = 2

    def read(self, value: str) -> int | None:
        return PAGE_SIZES.read(value)


class TrueFalseField(ParameterField):
    allowed = "true or false"
    schema = {"type": "boolean", "default": False}
    example = True

    def read(self, value: str) -> bool | None:
        return {"true": True, "false": False}.get(value)


class MaxStalenessField(ParameterField):
    allowed = f"a whole number of seconds from {STALENESS.least} to {STALENESS.most}"
    schema = STALENESS.schema
    example = 300

    def read(self, value: str) -> int | None:
        return STALENESS.read(value)


class CursorField(ParameterField):
    allowed = "the unchanged cursor from `next` of a response to the same query, or leave it out"
    schema = {"type": "string", "minLength": 1}
    example = None  # a cursor is valid on one server only

    def read(self, value: str) -> Cursor | None:
        try:
            return Cursor.unsign(value)
        except BadSignature:
            return None
