"""The formula of docs/capacity.md prints the lines below it, and the table has its numbers."""

import re
from contextlib import redirect_stdout
from io import StringIO
from textwrap import dedent

from tests.processes import ROOT

PAGE = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE, re.MULTILINE)


def printed() -> str:
    [formula] = [dedent(block) for block in BLOCKS if "def capacity" in block]
    out = StringIO()
    with redirect_stdout(out):
        exec(formula, {})  # noqa: S102 - our own page
    return out.getvalue()


def test_the_formula_prints_what_the_page_shows() -> None:
    [shown] = [
        dedent(block) for block in BLOCKS if "records: refresh" in block and "def" not in block
    ]
    assert printed().split() == shown.split()


def test_the_table_has_the_numbers_of_the_formula() -> None:
    lines = [
        re.findall(r"[\d.]+(?= s;|,| a day|$)", line.partition("refresh ")[2])
        for line in printed().splitlines()
    ]
    rows = [
        "a refresh on two cores",
        "raw records of",
        "sealed totals of",
        "totals of months",
        "write-ahead log a day",
        "memory for the file cache",
    ]
    for number, start in enumerate(rows):
        [cells] = re.findall(rf"^\| {start}[^|]*\|(.*)\|$", PAGE, re.MULTILINE)
        shown = [float(re.sub(r"[^\d.]", "", cell)) for cell in cells.split("|")]
        for line, value in zip(lines, shown, strict=True):
            assert abs(float(line[number]) - value) <= max(0.05, 0.02 * value), start
