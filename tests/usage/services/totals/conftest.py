"""A day that is over, and a seal of it that stops at every step."""

from collections.abc import Callable

import pytest

from tests.stepped_seal import TODAY, SteppedSeal, give_usage


@pytest.fixture
def usage_of_a_day_that_is_over(state: None, set_today: Callable[[str], None]) -> None:
    set_today(TODAY)
    give_usage()


@pytest.fixture
def seal() -> SteppedSeal:
    return SteppedSeal()
