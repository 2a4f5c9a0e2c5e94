"""Whether a pinned package is known to be vulnerable, as far as the database of that answers.

A known vulnerability fails the check. A database that is not reached, or does not know a package,
fails nothing: it is said that no audit was made, and of what.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120
SERVICE_SECONDS = 10
COMMAND = [
    *(sys.executable, "-m", "pip_audit"),
    # It doesn't follow the one from the other.
    *("--requirement", str(ROOT / "requirements.txt")),
    *("--requirement", str(ROOT / "requirements-dev.txt")),
    # Versions are pinned: nothing is resolved, downloaded or installed.
    *("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
    *("--timeout", str(SERVICE_SECONDS)),
]


def audit(options: Sequence[str] = ()) -> tuple[bool, str]:
    """Whether nothing is known against the packages, and what to tell; `options` of pip-audit."""
    try:
        done = subprocess.run(
            [*COMMAND, *options], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return True, f"No audit was made: no answer within {SECONDS} seconds."
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return True, f"No audit was made: {said[:300]}"
    return verdict(packages)


def verdict(packages: Sequence[dict[str, Any]]) -> tuple[bool, str]:
    """What pip-audit found, in words; false when a vulnerability is known."""
    known = [
        f"{package['name']} {package['version']}: {found['id']}, mended in"
        f" {', '.join(found['fix_versions']) or 'no version yet'}"
        for package in packages
        for found in package.get("vulns", [])
    ]
    if known:
        return False, "\n".join(["Raise these versions in the requirements:", *known])
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return True, "No audit was made: the database of vulnerabilities knows no package here."
    told = f"{len(packages) - len(skipped)} packages audited, no vulnerability is known."
    return True, told + (f" Not audited: {', '.join(skipped)}." if skipped else "")


if __name__ == "__main__":
    is_well, told = audit(sys.argv[1:])
    print(told)
    sys.exit(0 if is_well else 1)
