"""Makes .venv and installs what the lock file names, when it has changed.

Safe to run twice at once (the second waits) and to interrupt (the next run starts anew). Runs on
the Python that bin/environment.sh found, before any package is installed.
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
    """Changes with the lock file and with the place of the tree, which scripts in .venv name."""
    return hashlib.sha256(str(ROOT).encode() + b"\0" + LOCK.read_bytes()).hexdigest()


def works() -> bool:
    """Whether .venv holds a whole environment: its Python may be gone, or an install cut short."""
    if UNFINISHED.exists() or not PYTHON.exists():
        return False
    probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode == 0


def is_current() -> bool:
    """Whether .venv holds exactly what the lock file names."""
    return STAMP.is_file() and STAMP.read_text() == fingerprint() and works()


def install() -> None:
    """Install the requirements, into a new environment when there is none that works."""
    print("Installing the requirements into .venv (the first time takes a minute) ...", flush=True)
    usable = works()
    ENVIRONMENT.mkdir(exist_ok=True)
    UNFINISHED.touch()
    if not usable:
        for left in ENVIRONMENT.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            elif left != UNFINISHED:  # it must outlive everything it warns of
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
    """Leave a .venv that fits the lock file."""
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
        sys.exit(
            "Installing the requirements failed, see above. Correct the cause and start again."
        )
    except OSError as error:
        sys.exit(f"Cannot make .venv: {error}. Was it made by another user?")
