"""No text from outside is a formula in a spreadsheet that separates cells by , or by ;."""

import csv
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usage.services.exports.csv_text import csv_chunks, defused

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
TEXTS = st.text(alphabet="=+-@;,'\"\t\r\n a1\uff1d", max_size=12)


def file(text: str) -> str:
    """Return the CSV of a row with this external id between other columns."""
    columns = ["subscription_id", "external_id", "unit"]
    return b"".join(csv_chunks(columns, [[[7, text, "seconds"]]])).decode()


def cells(written: str, separator: str) -> list[str]:
    if separator == ";":
        # With ; a quote inside a line protects no line end. Python's reader refuses a lone CR.
        written = written.replace("\r", "\n")
    rows = csv.reader(io.StringIO(written, newline=""), delimiter=separator)
    return [cell for row in rows for cell in row]


@given(TEXTS)
@example("a;=1+1;")
@example('a;"=1+1"')
@example("a\n=1+1")
@example("a;\t=1")
@example(";;=1")
def test_no_cell_is_a_formula(text: str) -> None:
    written = file(text)
    for separator in ",;":
        for cell in cells(written, separator):
            assert not cell.strip(' \t"').startswith(FORMULA), (separator, cell)
    # A spreadsheet may also read quotes as plain characters.
    for cell in re.split(r"[;\r\n]", written):
        assert not cell.strip(' \t"').startswith(FORMULA), cell


@given(TEXTS)
@example("'a")
@example("a;'=1;''")
def test_the_text_can_be_restored(text: str) -> None:
    [_, [_, cell, _]] = csv.reader(io.StringIO(file(text), newline=""))
    assert re.sub(r"(^|(?<=[;\r\n]))'", "", cell) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a;=1+1;", "a;'=1+1;"),
        ("=1;+2;-3;@4", "'=1;'+2;'-3;'@4"),
        ("\uff1d1", "'\uff1d1"),
        ("a; =1", "a;' =1"),
        ("a;b,c", "a;b,c"),
        ("0044-1", "0044-1"),
        ("a=1", "a=1"),
        ("O'Brien", "O'Brien"),
        ("", ""),
    ],
)
def test_an_apostrophe_stands_where_a_formula_would_begin(text: str, written: str) -> None:
    assert defused(text) == written
