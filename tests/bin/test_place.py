"""Secrets of bin/serve, which later runs keep."""

import stat
from pathlib import Path

from bin import place


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    made = place.secret(tmp_path / "key")
    assert len(made) == 64
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert place.secret(tmp_path / "key") == made
    assert place.secret(tmp_path / "other") != made


def test_a_secret_of_an_earlier_version_stays_unless_it_is_too_short(tmp_path: Path) -> None:
    kept = "x" * 43
    (tmp_path / "key").write_text(kept + "\n")
    assert place.secret(tmp_path / "key") == kept
    made = place.secret(tmp_path / "key", least=50)
    assert len(made) == 64
    assert place.secret(tmp_path / "key", least=50) == made


def test_half_a_secret_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    assert len(place.secret(tmp_path / "key")) == 64
