"""The text of amounts and moments."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from usage.notation import amount_text, moment_text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0E-8", "0"),
        ("0", "0"),
        ("100", "100"),
        ("1E-8", "0.00000001"),
        ("1E+3", "1000"),
        ("-0.10", "-0.1"),
        ("1.5", "1.5"),
        ("1.50000000", "1.5"),
        ("123456789012345678901234567890.12345678", "123456789012345678901234567890.12345678"),
    ],
)
def test_an_amount_has_every_digit_that_counts_and_no_other(amount: str, text: str) -> None:
    assert amount_text(Decimal(amount)) == text


def test_a_moment_has_six_digits_of_a_second() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert moment_text(noon) == "2026-11-24T12:00:00.000000Z"
    assert moment_text(noon.replace(microsecond=250)) == "2026-11-24T12:00:00.000250Z"
