"""TypeScript that is type-checked, then run by Node."""

import shutil
from pathlib import Path

from tests.usage.api.clients.node import HERE, packages, run, run_program


def prepare(place: Path) -> None:
    """Put the packages and the settings where generators, the compiler and Node look for them."""
    (place / "node_modules").symlink_to(packages())
    shutil.copy(HERE / "tsconfig.json", place)
    (place / "package.json").write_text('{"type": "module"}')


def type_check(place: Path) -> None:
    """Compile every file, `usage.mts` to `usage.mjs`. Fails where a type is wrong."""
    run_program("tsc", "--project", ".", at=place)


def run_compiled(name: str, place: Path, **environment: str) -> str:
    """What the compiled file prints."""
    return run(["node", name], place, environment=environment)
