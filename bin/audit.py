"""The audit of the locked packages: pip-audit looks for known vulnerabilities.

A known vulnerability fails the check. An unreachable database of vulnerabilities, or one without a
package, fails nothing: the output names the packages that were not audited, and the last audit.
`python -m bin.audit --record` adds the result to docs/audits.md.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120
SERVICE_SECONDS = 10
COMMAND = [
    *(sys.executable, "-m", "pip_audit"),
    # This lock file also has every package of the others.
    *("--requirement", str(ROOT / "requirements-dev.lock")),
    # The lock file has versions and hashes, so pip-audit downloads and installs nothing.
    *("--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
    *("--timeout", str(SERVICE_SECONDS)),
]
RECORD = ROOT / "docs" / "audits.md"


class Audit(NamedTuple):
    """The result of an audit: `is_well` unless a vulnerability is known, the text to print, and the
    number of packages that the database knew, 0 if no audit was made."""

    is_well: bool
    text: str
    audited: int = 0


def audit(options: Sequence[str] = ()) -> Audit:
    """Look up every locked package in the database; pip-audit gets the options too."""
    try:
        done = subprocess.run(
            [*COMMAND, *options], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Audit(True, f"No audit was made: no answer within {SECONDS} seconds.")
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        error = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Audit(True, f"No audit was made: {error[:300]}")
    return verdict(packages)


def verdict(packages: Sequence[dict[str, Any]]) -> Audit:
    """Return the result for the packages in the output of pip-audit."""
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    audited = len(packages) - len(skipped)
    known = [
        f"{package['name']} {package['version']}: {found['id']}, fixed in"
        f" {', '.join(found['fix_versions']) or 'no version yet'}"
        for package in packages
        for found in package.get("vulns", [])
    ]
    if known:
        text = "\n".join(["Packages with known vulnerabilities; raise their versions:", *known])
        return Audit(False, text, audited)
    if not audited:
        return Audit(
            True, "No audit was made: the database of vulnerabilities knows no package here."
        )
    text = f"{audited} packages audited, no vulnerability is known."
    return Audit(True, text + (f" Not audited: {', '.join(skipped)}." if skipped else ""), audited)


def last_audit(record: Path = RECORD) -> str:
    """Return a sentence with the day of the last audit in docs/audits.md."""
    days = [row[2:12] for row in record.read_text().splitlines() if row[:3] == "| 2"]
    where = f"see {record.parent.name}/{record.name}"
    return f"The last audit was on {days[-1]}, {where}." if days else f"None was yet: {where}."


def add_to_record(made: Audit, record: Path = RECORD) -> None:
    """Add a row to the table in docs/audits.md."""
    found = "none" if made.is_well else "; ".join(made.text.splitlines()[1:])
    with record.open("a") as file:
        file.write(f"| {datetime.now(UTC):%Y-%m-%d} | {made.audited} | {found} |\n")


def main(arguments: Sequence[str], record: Path = RECORD) -> int:
    """Audit the packages and print the result; return 1 if a vulnerability is known."""
    made = audit([argument for argument in arguments if argument != "--record"])
    print(made.text)
    if not made.audited:
        print(last_audit(record))
    elif "--record" in arguments:
        add_to_record(made, record)
    return 0 if made.is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
