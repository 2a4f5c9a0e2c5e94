"""Write the lock files: python -m bin.lock, after a change of a requirements file.

A lock file names every package with the hashes of all its files, for each Python from 3.11 on and
each kind of machine. pip then refuses every other file that an index serves.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11"
# For the image, bin/serve and bin/test. Each file includes the one before.
LOCKS = {
    "requirements.txt": "requirements.lock",
    "requirements-serve.txt": "requirements-serve.lock",
    "requirements-dev.txt": "requirements-dev.lock",
}
HEADER = "# Written by: python -m bin.lock\n"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    """Return the versions in a file and in the files that it includes, by normalised name."""
    text = path.read_text()
    found = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}
    for included in re.findall(r"^-r (\S+)$", text, re.MULTILINE):
        found |= pins(path.with_name(included))
    return found


def unlocked(root: Path) -> list[str]:
    """Return the packages of the requirements whose version is not in the lock file."""
    missing = [
        f"{name}=={version}"
        for requirements, lock in LOCKS.items()
        for name, version in pins(root / requirements).items()
        if pins(root / lock).get(name) != version
    ]
    return list(dict.fromkeys(missing))


def write(requirements: str, lock: str) -> None:
    """Look up the packages and their hashes, and write the lock file. Packages outside the
    requirements keep their version. Raises CalledProcessError."""
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", requirements, "--output-file", lock),
        *("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"),
        *("--no-annotate", "--no-header", "--quiet"),
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    path = ROOT / lock
    path.write_text(HEADER + path.read_text())


if __name__ == "__main__":
    for names in LOCKS.items():
        write(*names)
