"""Every setting, command and endpoint is in the README or in docs/."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from tests.processes import ROOT
from usage.management import commands

COMMANDS = sorted(
    file.stem for file in Path(commands.__path__[0]).glob("*.py") if file.stem != "__init__"
)
VARIABLES = sorted(
    call.args[0].value
    for call in ast.walk(ast.parse((ROOT / "config" / "settings.py").read_text()))
    if isinstance(call, ast.Call)
    and isinstance(call.func, ast.Attribute)
    and isinstance(call.func.value, ast.Name)
    and call.func.value.id == "environment"
    and isinstance(call.args[0], ast.Constant)
    and isinstance(call.args[0].value, str)
)


def paths(found: list[URLPattern | URLResolver], before: str = "/") -> Iterator[str]:
    """Yield every path without its parameters. The paths inside the admin are left out."""
    for pattern in found:
        path = before + str(pattern.pattern)
        if path == "/admin/" or isinstance(pattern, URLPattern):
            yield path.partition("<")[0]
        else:
            yield from paths(pattern.url_patterns, path)


def documentation() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def test_there_is_something_to_document() -> None:
    assert {"refresh_usage", "usage_status", "import_usage"} <= set(COMMANDS)
    assert {"DATABASE_URL", "REDIS_URL", "USAGE_TIME_ZONE", "USAGE_OPEN_DAYS"} <= set(VARIABLES)


@pytest.mark.parametrize("name", [*COMMANDS, *VARIABLES])
def test_command_or_setting_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", documentation())


def test_documentation_names_no_variable_that_is_not_read() -> None:
    named = set(re.findall(r"\b(?:USAGE|DJANGO)_[A-Z_]+\b", documentation()))
    code = "".join(
        file.read_text()
        for folder in ["config", "bin", "benchmarks", "tests"]
        for file in sorted((ROOT / folder).rglob("*"))
        if file.suffix in {"", ".py", ".sh"} and file.is_file()
    )
    assert {name for name in named if name not in code} == set()


@pytest.mark.parametrize("path", sorted(set(paths(get_resolver().url_patterns)) - {"/"}))
def test_endpoint_is_documented(path: str) -> None:
    assert f"{path}`" in documentation() or f"{path}{{id}}/`" in documentation()
