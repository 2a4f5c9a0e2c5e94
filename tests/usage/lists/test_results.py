"""JSON results of rows that are hard to produce in the database."""

from decimal import Decimal

from usage.lists.results import exceeded


def test_the_difference_to_the_limit_is_never_rounded() -> None:
    total = Decimal("123456789012345678901234567890.12345678")
    [only] = exceeded(1, [total, None], Decimal("0.00000001"))["exceeded"]
    assert only["exceeded_by"] == "123456789012345678901234567890.12345677"
