"""The marks of cost name modules that exist."""

import pytest

from tests.costs import PROCESS, SPLIT, TESTS


@pytest.mark.parametrize("name", PROCESS)
def test_a_module_of_dear_tests_exists(name: str) -> None:
    assert (TESTS / name).exists()


@pytest.mark.parametrize("name", sorted(SPLIT))
def test_a_module_that_is_split_is_one_of_them(name: str) -> None:
    """Fails when a module is renamed: its tests would then run one after the other."""
    (path,) = TESTS.rglob(name)
    assert path.relative_to(TESTS).as_posix().startswith(PROCESS)
