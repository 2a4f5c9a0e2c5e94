"""Linters of OpenAPI find no error in docs/openapi.yaml."""

from typing import Any

from tests.processes import ROOT
from tests.usage.api.clients.node import HERE, found, run_program

DESCRIPTION = "docs/openapi.yaml"


def slashed_paths() -> int:
    """Return the number of paths that end with a slash. Both linters warn of them, as docs/api.md
    says."""
    lines = (ROOT / DESCRIPTION).read_text().splitlines()
    return sum(line.startswith("  /api/") and line.endswith("/:") for line in lines)


def test_spectral_warns_of_slashes_alone() -> None:
    ruleset = str(HERE / "spectral.yaml")
    arguments = ["lint", DESCRIPTION, "--ruleset", ruleset, "--format", "json"]
    problems: Any = found(run_program("spectral", *arguments, at=ROOT, fails=True))
    codes = [problem["code"] for problem in problems]
    assert codes == ["path-keys-no-trailing-slash"] * slashed_paths(), problems


def test_redocly_warns_of_slashes_alone() -> None:
    config = str(HERE / "redocly.yaml")
    arguments = ["lint", DESCRIPTION, "--config", config, "--format", "json"]
    report: Any = found(run_program("redocly", *arguments, at=ROOT, fails=True))
    rules = [problem["ruleId"] for problem in report["problems"]]
    assert rules == ["no-path-trailing-slash"] * slashed_paths(), report
    assert report["totals"]["errors"] == 0
