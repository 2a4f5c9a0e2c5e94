"""Modules import downwards only, as the contract in pyproject.toml says of every module."""

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.processes import ROOT

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = next(each for each in CONTRACTS["contracts"] if each["type"] == "layers")


def check(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_module_imports_upwards() -> None:
    checked = check(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_module_has_its_layer() -> None:
    """Fails when the layers are in another order, or when a module may be left out."""
    assert LAYERS["containers"] == ["usage"]
    assert LAYERS["exhaustive"] is True
    names = [name.strip(" ()") for line in LAYERS["layers"] for name in line.split("|")]
    order = [
        names.index(name) for name in ["api", "lists", "services", "selectors", "models", "errors"]
    ]
    assert order == sorted(order)


def test_upward_import_is_found(tmp_path: Path) -> None:
    """Fails when the contract names no module of ours: it would always pass."""
    for name in ["config", "usage", "worker", "pyproject.toml"]:
        (tmp_path / name).symlink_to(ROOT / name)
    assert check(tmp_path).returncode == 0
    (tmp_path / "usage").unlink()
    copy = tmp_path / "usage"
    for file in (ROOT / "usage").rglob("*.py"):
        target = copy / file.relative_to(ROOT / "usage")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.read_text())
    for name, upward in [
        ("models/runs.py", "usage.services.totals.refresh"),
        ("models/runs.py", "worker.tasks"),
        ("models/runs.py", "config.settings"),
        ("lists/results.py", "usage.api.responses"),
        ("lists/results.py", "rest_framework.request"),
    ]:
        module = copy / name
        original = module.read_text()
        module.write_text(f"{original}\nimport {upward}\n")
        checked = check(tmp_path)
        assert checked.returncode == 1, upward
        assert upward.partition(".")[0] in checked.stdout
        module.write_text(original)
