"""The check of plain English: words that CONTRIBUTING.md forbids, with the words to use instead.

It reads comments, docstrings, messages, templates, pages and the names that Python code binds.
Paths as arguments restrict it: `python -m bin.plain_english usage/api`. Words in double quotes or
backticks pass.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUBJECT = "begin with the subject, then its verb"
ACTIVE = "say who does it: the client sends, the server reads, the log names"
# ^ stands for the beginning of a sentence; (?!.*\?) lets questions pass.
PATTERNS = {
    r"^Of ": SUBJECT,
    r"^(?:Or )?[Ee]lse\b|[,:;] else\b": "otherwise",
    r"^(?:Whoever|Whatever) ": SUBJECT,
    r"^(?:What|Who) (?!.*\?)": SUBJECT,
    r"\b(?:is|are|was|were|be|been)(?: not| never| also| only| then)? (?:told|asked)\b": ACTIVE,
    r"\b(?:tells?|told) of\b": "names, reports, describes",
    r"\bc(?:omes?|ame) to\b": "is, returns, equals, adds up to, reaches",
    r"\bst(?:ands?|ood|anding) still\b": "hangs, is frozen, does not move",
    r"\blet be\b": "leave alone, keep",
    r"\bas never begun\b": "is rolled back",
    r"\b[Nn]obody is to\b": "say what must not happen",
    r"\b(?:is|are) to wait\b": "waits, must wait",
    r"\bto be had\b": "is unavailable, cannot be read",
    r"\bat (?:its|their) heads?\b": "in its header, first",
    r"\bby turns\b": "alternately",
}
NAMES = {
    "asked": "query, parameters",
    "told": "message, notice",
    "given": "value, parameters",
    "answers": "results, rows, responses",
}
COMPILED = {re.compile(pattern): instead for pattern, instead in PATTERNS.items()}
COMMENT_MARKERS = dict.fromkeys(("", ".py", ".sh", ".toml", ".yml"), "#") | {
    ".sql": "--",
    ".js": "//",
}
SUFFIXES = {*COMMENT_MARKERS, ".html", ".md"}
SKIPPED_FOLDERS = {"node_modules", "uplot"}
# Its sentences must fail.
SKIPPED_FILE = "test_plain_english.py"

QUOTED = re.compile(r"`+[^`]+`+|\"[^\"\n]{1,60}\"|“[^”]*”")
CUT = "\x1f"
SENTENCE_END = re.compile(rf"{CUT}|\n\s*\n|\n\s*(?:[-*]|\d+\.)\s|(?<=[.!?:])[)\"]?\s+(?=[A-Z(…*])")
BEFORE_SENTENCE = re.compile(r"[\s(>#*_|-]*(?:\d+\. )?")
CODE_BLOCK = re.compile(r"(?<=\n)(?:```.*?\n```|(?: {4}|\t)[^\n]*)", re.DOTALL)
# A heading may be the question of a reader.
HEADING = re.compile(r"(?<=\n)#[^\n]*")
BETWEEN_PARAGRAPHS = re.compile(r"\||(?<=\n)(?=#|\n)")
VALUE = re.compile(r"\{\{.*?\}\}")
IN_SENTENCE = re.compile(r"\{%.*?%\}|</?(?:a|b|em|strong|span)\b[^>]*>")
TAG = re.compile(r"<(script|style).*?</\1>|<[^>]*>", re.DOTALL)
SQL_LITERAL = re.compile(r"'((?:[^']|'')*(?:'\s*\n\s*'(?:[^']|'')*)*)'")

# A line number, and the text that begins there.
Text = tuple[int, str]
# A line number, the forbidden words, their sentence and the words to use instead.
Finding = tuple[int, str, str, str]


def findings_in(first_line: int, text: str) -> Iterator[Finding]:
    """Yield the forbidden words of a text that begins at a line."""
    text = replaced(QUOTED, "…", text)
    begin = 0
    for cut in [*SENTENCE_END.finditer(text), None]:
        end = cut.start() if cut else len(text)
        before = BEFORE_SENTENCE.match(text, begin, end)
        start = before.end() if before else begin
        sentence = " ".join(text[start:end].split())
        for pattern, instead in COMPILED.items():
            if found := pattern.search(sentence):
                line = first_line + text.count("\n", 0, start)
                yield line, found.group().strip(" ,:;"), sentence, instead
        begin = cut.end() if cut else end


def replaced(pattern: re.Pattern[str], by: str, text: str) -> str:
    """Replace what the pattern matches, and keep the number of lines."""
    return pattern.sub(lambda found: by + "\n" * found.group().count("\n"), text)


def comments(text: str, marker: str) -> Iterator[Text]:
    """Yield the comments of a file; lines that follow each other are one comment."""
    comment = re.compile(rf"(.*\s\s|\s*){marker}\s(.*)")
    block: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        found = comment.fullmatch(line)
        if block and (found is None or found[1].strip()):
            yield number - len(block), "\n".join(block)
            block = []
        if found:
            block.append(found[2])


def strings(tree: ast.AST) -> Iterator[Text]:
    """Yield the strings of a module that have a blank inside, so that they may be sentences."""
    parts: set[int] = set()
    for node in ast.walk(tree):
        pieces: Sequence[ast.expr] = [node] if isinstance(node, ast.Constant) else ()
        if isinstance(node, ast.JoinedStr):
            pieces = node.values
            parts.update(map(id, pieces))
        elif id(node) in parts:
            continue
        words = "".join(
            str(piece.value) if isinstance(piece, ast.Constant) else "…" for piece in pieces
        )
        if " " in words.strip():
            yield pieces[0].lineno, words


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the names that a module binds."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
                | ast.arg(arg=name)
                | ast.alias(name=_, asname=str(name))
                | ast.alias(name=name)
            ):
                yield node.lineno, name.rpartition(".")[2]


def texts(path: Path, text: str) -> Iterator[Text]:
    """Yield what a person may read in a file: comments, strings, pages, templates."""
    if marker := COMMENT_MARKERS.get(path.suffix):
        yield from comments(text, marker)
    if path.suffix == ".py":
        yield from strings(ast.parse(text))
    elif path.suffix == ".sql":
        for found in SQL_LITERAL.finditer(re.sub("--.*", "", text)):
            yield 1 + text.count("\n", 0, found.start()), re.sub(r"'(\s*)'", r"\1", found[1])
    elif path.suffix == ".html":
        text = replaced(IN_SENTENCE, "", replaced(VALUE, "…", text))
        yield 1, replaced(TAG, CUT, text)
    elif path.suffix == ".md":
        text = replaced(HEADING, CUT, text)
        yield 1, replaced(BETWEEN_PARAGRAPHS, CUT, replaced(CODE_BLOCK, CUT, text))


def check(path: Path) -> list[Finding]:
    """Return the findings of one file, by line."""
    text = path.read_text(errors="replace")
    found = {
        each for first_line, part in texts(path, text) for each in findings_in(first_line, part)
    }
    if path.suffix == ".py":
        bound = [(1, path.stem), *names(ast.parse(text))]
        allowed = {"given"} if "tests" in path.parts else set()
        found |= {
            (line, name, f"the name {name}", NAMES[name.lower()])
            for line, name in bound
            if name.lower() in NAMES and name not in allowed
        }
    return sorted(found)


def files(path: Path) -> Iterator[Path]:
    """Yield the files with texts, below a folder or the one that the path names."""
    if path.is_file():
        yield path
    for folder, folders, file_names in os.walk(path):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and name not in SKIPPED_FOLDERS
        )
        for file in (Path(folder, name) for name in sorted(file_names) if name != SKIPPED_FILE):
            if file.suffix in SUFFIXES and file.name[0] != ".":
                yield file


def main(arguments: Sequence[str]) -> int:
    """Print the findings; 1 where there is one."""
    count = 0
    for argument in arguments or [str(ROOT)]:
        for path in files(Path(argument).resolve()):
            for line, found, sentence, instead in check(path):
                count += 1
                place = os.path.relpath(path)
                print(f"{place}:{line}: {found}: {sentence[:120]} [write: {instead}]")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
