"""Make .venv and install the packages of the lock file, if it has changed.

A second run at the same time waits for the first; a run after an interrupted one starts anew. The
module runs on the Python that bin/environment.sh found, before any package is installed.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bin.lock import unlocked

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
LOCK = ROOT / "requirements-dev.lock"
STAMP = ENVIRONMENT / "installed-requirements"
UNFINISHED = ENVIRONMENT / "installation-unfinished"


def fingerprint() -> str:
    """Return a hash of the lock file and of the tree's path, which scripts in .venv contain."""
    return hashlib.sha256(str(ROOT).encode() + b"\0" + LOCK.read_bytes()).hexdigest()


def works() -> bool:
    """Return whether .venv is complete: its Python runs, and no installation was interrupted."""
    if UNFINISHED.exists() or not PYTHON.exists():
        return False
    probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode == 0


def is_current() -> bool:
    """Return whether .venv has exactly the packages of the lock file."""
    return STAMP.is_file() and STAMP.read_text() == fingerprint() and works()


def install() -> None:
    """Install the requirements, into a new environment if the present one does not work."""
    print("Installing the requirements into .venv (the first time takes a minute) ...", flush=True)
    usable = works()
    ENVIRONMENT.mkdir(exist_ok=True)
    UNFINISHED.touch()
    if not usable:
        for left in ENVIRONMENT.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            elif left != UNFINISHED:  # removed last, so that an interrupted run is seen
                left.unlink()
        venv.EnvBuilder(with_pip=True, symlinks=True).create(ENVIRONMENT)
    pip: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
    ]
    subprocess.run([*pip, "--requirement", LOCK], check=True, stdin=subprocess.DEVNULL)
    STAMP.write_text(fingerprint())
    UNFINISHED.unlink()


def main() -> None:
    """Bring .venv to the packages of the lock file."""
    if missing := unlocked(ROOT):
        print(
            f"The lock files have other versions than requirements*.txt of {', '.join(missing)}. "
            "Write them: .venv/bin/python -m bin.lock",
            file=sys.stderr,
        )
    local = ROOT / ".local"
    local.mkdir(exist_ok=True)
    with (local / "install.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another bin/serve or bin/test to install .venv ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current():
            install()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError:
        sys.exit("pip could not install the requirements: see above, correct it and start again.")
    except OSError as error:
        sys.exit(f"Cannot make .venv: {error}. Another user may own it: run as that user.")
