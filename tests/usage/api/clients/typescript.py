"""TypeScript programs: check their types, then run them in Node."""

import shutil
from pathlib import Path

from tests.usage.api.clients.node import HERE, packages, run, run_program


def prepare(place: Path) -> None:
    """Put the packages and the settings where generators, the compiler and Node expect them."""
    (place / "node_modules").symlink_to(packages())
    shutil.copy(HERE / "tsconfig.json", place)
    (place / "package.json").write_text('{"type": "module"}')


def type_check(place: Path) -> None:
    """Compile every file, `usage.mts` to `usage.mjs`. Fails if a type is wrong."""
    run_program("tsc", "--project", ".", at=place)


def run_compiled(name: str, place: Path, **environment: str) -> str:
    """Return the output of the compiled file."""
    return run(["node", name], place, environment=environment)
