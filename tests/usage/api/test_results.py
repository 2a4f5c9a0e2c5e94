"""How rows look in JSON, where the database can't be brought there quickly."""

from decimal import Decimal

import pytest

from usage.api.results import exceeded, plain


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0E-8", "0.00000000"),
        ("1E-8", "0.00000001"),
        ("1E+3", "1000"),
        ("-0.10", "-0.10"),
        ("123456789012345678901234567890.12345678", "123456789012345678901234567890.12345678"),
    ],
)
def test_money_is_plain_and_keeps_its_digits(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


def test_the_difference_to_the_limit_is_never_rounded() -> None:
    total = Decimal("123456789012345678901234567890.12345678")
    [only] = exceeded(1, [total, None], Decimal("0.00000001"))["exceeded"]
    assert only["exceeded_by"] == "123456789012345678901234567890.12345677"
