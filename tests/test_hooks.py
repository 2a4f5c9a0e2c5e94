"""The hooks of .pre-commit-config.yaml are checks of bin/test, with the same programs."""

import shlex
from typing import Any

import pytest
import yaml

from bin.checks import CHECKS
from tests.processes import ROOT, run

CONFIGURATION = ROOT / ".pre-commit-config.yaml"
[REPOSITORY] = yaml.safe_load(CONFIGURATION.read_text())["repos"]
HOOKS: list[dict[str, Any]] = REPOSITORY["hooks"]


def test_pre_commit_reads_the_file_and_fetches_nothing() -> None:
    validated = run("-m", "pre_commit", "validate-config", str(CONFIGURATION))
    assert (validated.returncode, validated.stdout) == (0, ""), validated.stdout
    assert REPOSITORY["repo"] == "local"
    assert {hook["language"] for hook in HOOKS} == {"system"}
    assert len(HOOKS) >= 5


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_hook_is_a_check(hook: dict[str, Any]) -> None:
    """Fails when a hook and its check in bin/checks.py run different commands."""
    _, *check = CHECKS[hook["name"]]
    words = shlex.split(hook["entry"])
    program = words.index(".venv/bin/python")
    # Before the program: variables that bin/test sets as well.
    assert all(word == "env" or "=" in word for word in words[:program])
    if hook.get("pass_filenames", True):
        # pre-commit passes the changed files in place of the path.
        path = check.pop()
        assert (ROOT / path).is_dir()
        assert path == "." or hook["files"].startswith(f"^{path}/")
    assert words[program + 1 :] == check
