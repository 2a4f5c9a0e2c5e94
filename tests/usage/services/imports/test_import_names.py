"""Names that look the same are one name: invisible characters are refused, and NFC is stored."""

import unicodedata
from pathlib import Path

import pytest

from tests.usage.importing import call, counts, imported, stored, write, write_records
from usage.models import Subscription

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

COMPOSED, DECOMPOSED = "Zoë", unicodedata.normalize("NFD", "Zoë")
LONGER_IN_NFC = "\u0958"


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\xa0", "U+00A0 (NO-BREAK SPACE)"),
        ("\x85", "U+0085 (without a name)"),
        ("\xad", "U+00AD (SOFT HYPHEN)"),
        ("\u034f", "U+034F (COMBINING GRAPHEME JOINER)"),
        ("\u200b", "U+200B (ZERO WIDTH SPACE)"),
        ("\u202e", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
        ("\u2028", "U+2028 (LINE SEPARATOR)"),
        ("\u3000", "U+3000 (IDEOGRAPHIC SPACE)"),
        ("\u3164", "U+3164 (HANGUL FILLER)"),
        ("\ufe0f", "U+FE0F (VARIATION SELECTOR-16)"),
        ("\ufeff", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        ("\ue000", "U+E000 (without a name)"),
        ("\U000e0041", "U+E0041 (TAG LATIN CAPITAL LETTER A)"),
    ],
)
@pytest.mark.parametrize("column", ["external_id", "record_key"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_hidden_character_is_refused_by_name(
    directory: Path, character: str, name: str, column: str, quote: str
) -> None:
    """Fails when two names may differ only in characters that nobody sees."""
    value = f"{quote}31{character}7{quote}"
    names = {"external_id": "317", "record_key": "k"} | {column: value}
    line = f"data,{names['external_id']},2026-11-15T21:00:00Z,1,1,{names['record_key']}"
    report = imported(write_records(directory / "usage.csv", line))
    shown = value.strip('"')
    assert [reason for _, reason, _ in report.first_rejections] == [
        f"{column} {shown!r} has the invisible character {name}: remove or replace it"
    ]
    assert Subscription.objects.count() == 0


def test_two_spellings_of_a_name_are_one_subscription_and_one_record(directory: Path) -> None:
    """Fails when a name is stored without normalisation."""
    lines = [
        f"data,{name},2026-11-15T21:00:00Z,1,1,{key}"
        for name in (COMPOSED, DECOMPOSED)
        for key in (COMPOSED, DECOMPOSED)
    ]
    path = write_records(directory / "usage.csv", *lines)
    assert counts(imported(path, source=COMPOSED)) == (4, 1, 3, 0)
    assert counts(imported(path, source=DECOMPOSED)) == (4, 0, 4, 0)
    assert [external_id for _, external_id, _, _, _ in stored()] == [COMPOSED]
    assert Subscription.objects.get().external_id == COMPOSED


def test_the_rules_apply_to_names_in_call_records(directory: Path) -> None:
    good = call("15/11/2026 21:00:00", "15/11/2026 21:01:00")
    path = write(
        directory / "calls.csv",
        good.replace(",01,", f",{COMPOSED},"),
        good.replace(",01,", f",{DECOMPOSED},"),
        good.replace(",01,", ",0\u200b1,"),
    )
    report = imported(path, format="calls", zone="UTC")
    assert counts(report) == (3, 1, 1, 1)
    assert "phone_number '0\\u200b1' has the invisible character U+200B" in (
        report.first_rejections[0].reason
    )


def test_letters_of_every_script_are_accepted(directory: Path) -> None:
    names = ["Zoë", "Ωmega", "Łódź", "भारती", "日本", "한국", "мир", "€5"]
    lines = [f"data,{name},2026-11-15T21:00:00Z,1,1,k" for name in names]
    assert imported(write_records(directory / "usage.csv", *lines)).added == len(names)
    assert {external_id for _, external_id, _, _, _ in stored()} == set(names)


def test_the_limit_of_length_applies_to_the_stored_spelling(directory: Path) -> None:
    """U+0958 is stored as two characters. Fails when the length is checked before NFC."""
    path = write_records(
        directory / "usage.csv",
        f"data,{LONGER_IN_NFC * 51},2026-11-15T21:00:00Z,1,1,k",
        f"data,{DECOMPOSED * 33},2026-11-15T21:00:00Z,1,1,k",
    )
    report = imported(path)
    assert counts(report) == (2, 1, 0, 1)
    assert "is not text of at most 100 characters" in report.first_rejections[0].reason
