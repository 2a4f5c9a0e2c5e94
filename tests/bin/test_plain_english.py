"""The check of plain English finds forbidden words wherever a person reads them."""

import time
from pathlib import Path

import pytest

from bin import plain_english

FORBIDDEN = [
    "Of a year the sample takes one day.",
    "Else the refresh waits.",
    "The view is filled; else the totals are wrong.",
    "Whoever holds the lock writes.",
    "Whatever writes goes to the primary.",
    "What changes is noted.",
    "The view is old. What changes is noted.",
    "Who reads the totals needs a token.",
    "The client is told the tag.",
    "Replicas are never asked.",
    "A server that was asked twice answers once.",
    "The metrics tell of a refresh.",
    "The sum comes to 10.",
    "The months come to another total.",
    "A worker stands still.",
    "The index is let be.",
    "The transaction is as never begun.",
    "Nobody is to wait.",
    "A client is to wait for a minute.",
    "The lock is not to be had.",
    "The response has the tag at its head.",
    "Both are read by turns.",
]
PLAIN = [
    "What changed in the month?",
    "Who has spent 10 or more?\n  curl http://localhost/",
    "Otherwise the refresh waits.",
    "Nothing else: the totals are read-only.",
    "The totals of a month. A part of it is sealed.",
    "The rows of what changed.",
    "The user who reads it. Those who write it.",
    'Do not write `is told`, or "is asked".',
    "Imports of a source take turns.",
    "The outcome to return. Income tools.",
    "The head of the queue is at the top.",
]


def found(tmp_path: Path, name: str, text: str) -> list[tuple[int, str]]:
    path = tmp_path / name
    path.write_text(text)
    return [(line, words) for line, words, _, _ in plain_english.check(path)]


@pytest.mark.parametrize("sentence", FORBIDDEN)
def test_each_forbidden_sentence_is_found_once(tmp_path: Path, sentence: str) -> None:
    lines = [line for line, _ in found(tmp_path, "comment.py", f"# {sentence}\n")]
    assert lines == [1] * (2 if sentence == "Nobody is to wait." else 1)


@pytest.mark.parametrize("sentence", PLAIN)
def test_a_plain_sentence_passes(tmp_path: Path, sentence: str) -> None:
    assert found(tmp_path, "page.md", sentence) == []
    assert found(tmp_path, "module.py", f'TEXT = """{sentence} """\n') == []


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("module.py", '"""A module.\n\nWhat it does.\n"""\n', 3),
        ("module.py", "x = 1\ny = 1  # Else it fails.\n", 2),
        ("module.py", "# The first line of a sentence\n# ends. What follows is one more.\n", 2),
        ("module.py", "# A sentence is\n# told over two lines.\n", 1),
        ("module.py", 'x = f"The row {1} is told."\n', 1),
        ("module.py", 'x = "The row" + (\n    "is "\n    "told."\n)\n', 2),
        ("object.sql", "SELECT 1;\n-- Of a day.\n", 2),
        ("object.sql", "COMMENT ON VIEW a IS\n    'The rows '\n    'are told.';\n", 2),
        ("page.html", "{% block a %}\n<p>The <b>row</b> is\ntold {{ x }}.</p>\n", 2),
        ("page.md", "# A page\n\n- One.\n- Of two.\n", 4),
        ("page.md", "| name | text |\n|---|---|\n| a | Whoever writes. |\n", 3),
        ("settings.toml", "# Of a day.\n", 1),
        ("run", "#!/bin/sh\n# Of a day.\n", 2),
    ],
)
def test_it_reads_what_a_person_reads(tmp_path: Path, name: str, text: str, line: int) -> None:
    assert [at for at, _ in found(tmp_path, name, text)] == [line]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("module.py", 'x = ["Of", "What"]\n'),
        ("page.md", "A page.\n\n```\n# Of a day.\n```\n\n    # Of a day.\n"),
        ("page.html", "<script>\nWhat is this.\n</script>\n<!-- a --><p class='Of a'>Rows.</p>"),
    ],
)
def test_it_passes_over_code(tmp_path: Path, name: str, text: str) -> None:
    assert found(tmp_path, name, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "asked = 1\n",
        "x.told = 1\n",
        "def answers(): ...\n",
        "def f(*, given): ...\n",
        "class Asked: ...\n",
        "from a import b as told\n",
        "from a import answers\n",
        "for asked in []: ...\n",
        "f = lambda told: 1\n",
        "class A:\n    asked: int\n",
    ],
)
def test_a_name_that_says_no_subject_is_found(tmp_path: Path, text: str) -> None:
    assert len(found(tmp_path, "module.py", text)) == 1


def test_a_module_is_a_name_too(tmp_path: Path) -> None:
    assert found(tmp_path, "answers.py", "") == [(1, "answers")]


def test_tests_may_call_their_first_step_given(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    assert found(tmp_path, "tests/test_a.py", "from a import given\n") == []
    assert found(tmp_path, "module.py", "x = given.y\n") == []


def test_a_finding_names_its_place_and_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "page.md").write_text("The row waits; else it fails.\n")
    (tmp_path / "page.md").write_text("Of a day.\n")
    assert plain_english.main(["a"]) == 1
    assert capsys.readouterr().out == (
        "a/page.md:1: else: The row waits; else it fails. [write: otherwise]\n"
    )
    (tmp_path / "page.md").write_text("A day.\n")
    assert plain_english.main(["page.md"]) == 0


def test_the_whole_tree_takes_seconds() -> None:
    """Fails when a pattern backtracks, or folders of packages are read."""
    began = time.process_time()
    plain_english.main([])
    assert time.process_time() - began < 10
