"""Install the packages of a lock file into .venv: python -m bin.install requirements-serve.lock.

.venv is made if it is missing, and nothing is installed if it has these packages already. A second
run at the same time waits for the first; a run after an interrupted one starts anew. The module
runs on the Python that bin/environment.sh found, before any package is installed.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bin import spawn
from bin.interrupt import Interrupted, raise_interrupted
from bin.lock import LOCKS, pins, unlocked

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "installed-requirements"
UNFINISHED = ENVIRONMENT / "installation-unfinished"
PIP = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def fingerprint(lock: str) -> str:
    """Return a hash of the lock file and of the tree's path, which scripts in .venv contain."""
    return hashlib.sha256(str(ROOT).encode() + b"\0" + (ROOT / lock).read_bytes()).hexdigest()


def included(lock: str) -> list[str]:
    """Return the lock files whose packages are all in this one, itself included."""
    packages = pins(ROOT / lock).items()
    return [name for name in LOCKS.values() if pins(ROOT / name).items() <= packages]


def works() -> bool:
    """Return whether .venv is complete: its Python runs, and no installation was interrupted."""
    if UNFINISHED.exists() or not PYTHON.exists():
        return False
    probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode == 0


def is_current(lock: str) -> bool:
    """Return whether .venv has the packages of the lock file, in these versions."""
    return STAMP.is_file() and fingerprint(lock) in STAMP.read_text().split() and works()


def install(lock: str) -> None:
    """Install the packages, into a new environment if the present one does not work."""
    print(f"Installing {lock} into .venv (the first time takes a minute) ...", flush=True)
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
    # pip ends with this process, so it never writes beside the pip of the next run.
    pip = spawn.spawn([*PIP, "--require-hashes", "--requirement", lock], directory=ROOT)
    if spawn.run_to_end(pip) != 0:
        sys.exit("pip could not install the packages: see above, correct it and start again.")
    STAMP.write_text("\n".join(map(fingerprint, included(lock))))
    UNFINISHED.unlink()


def main(lock: str) -> None:
    """Bring .venv to the packages of the lock file."""
    if missing := unlocked(ROOT):
        print(
            f"The lock files have other versions than requirements*.txt of {', '.join(missing)}. "
            "Write them: .venv/bin/python -m bin.lock",
            file=sys.stderr,
        )
    local = ROOT / ".local"
    local.mkdir(exist_ok=True)
    with (local / "install.lock").open("a") as turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another bin/serve or bin/test to install .venv ...", flush=True)
            fcntl.flock(turn, fcntl.LOCK_EX)
        if not is_current(lock):
            install(lock)


if __name__ == "__main__":
    raise_interrupted()
    try:
        main(sys.argv[1])
    except Interrupted:
        sys.exit(130)
    except (subprocess.CalledProcessError, spawn.LauncherError) as error:
        sys.exit(f"Cannot make .venv: {error}")
    except OSError as error:
        sys.exit(f"Cannot make .venv: {error}. Another user may own it: run as that user.")
