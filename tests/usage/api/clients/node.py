"""Generators and linters from npm, in the versions that package-lock.json pins."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.processes import ROOT

HERE = Path(__file__).resolve().parent
PINS = [HERE / "package.json", HERE / "package-lock.json"]
OLDEST_NODE = (20, 19)
ENVIRONMENT = {
    **os.environ,
    "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
    "REDOCLY_TELEMETRY": "off",
    "NO_COLOR": "1",
}


@cache
def packages() -> Path:
    """Return the folder node_modules with every package, installed once for each set of pins.

    Skips the test on a machine without npm, or with a Node that is too old for the packages.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("no npm on this machine, so no generator or linter")
    version = run(["node", "--version"], HERE).strip()
    if tuple(map(int, re.findall(r"\d+", version)))[:2] < OLDEST_NODE:
        pytest.skip(f"Node is {version}, and the packages need {OLDEST_NODE} or newer")
    digest = hashlib.sha256(b"\0".join(pin.read_bytes() for pin in PINS)).hexdigest()[:16]
    place = ROOT / ".node" / digest
    place.mkdir(parents=True, exist_ok=True)
    with (place.parent / "install.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "installed").exists():
            for pin in PINS:
                shutil.copy(pin, place)
            # npm runs no install script of a package.
            options = ["--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
            run(["npm", "ci", *options], place)
            (place / "installed").touch()
    return place / "node_modules"


def run_program(name: str, *arguments: str | Path, at: Path, fails: bool = False) -> str:
    """Return the standard output of a program of a package, run in this folder."""
    return run([packages() / ".bin" / name, *arguments], at, fails=fails)


def run(
    command: Sequence[str | Path],
    at: Path,
    *,
    fails: bool = False,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Return the standard output of a command. It must succeed, or `fails` expects a finding."""
    done = subprocess.run(
        command,
        cwd=at,
        env={**ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert fails or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def found(text: str) -> object:
    """Return the JSON that a linter prints among other lines."""
    return json.loads(text[min(text.find(start) for start in "[{" if start in text) :])
