"""Every statement that aggregates totals or moves them is a file of usage/sql/queries that the
server can run."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import transaction

from tests.connections import run_sql
from tests.processes import ROOT
from usage.models import VoiceUsageRecord
from usage.sql import queries

FOLDER = Path(queries.__file__).parent
NAMES = sorted(file.stem for file in FOLDER.glob("*.sql"))
STATEMENTS = [name for name in NAMES if not name.startswith("_")]
MODULES = sorted(file for folder in ("usage", "worker") for file in (ROOT / folder).rglob("*.py"))

SQL = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE)\b")
AGGREGATES = re.compile(r"\bGROUP BY\b|\b(?:sum|count|min|max|array_agg) ?\(", re.I)
MOVES = re.compile(
    r"\b(?:INSERT INTO|UPDATE|DELETE FROM|TRUNCATE)"
    r" (?:usage_daily_sealed|usage_period_total|usage_total_change)\b"
)
READS = re.compile(
    r"\b(?:FROM|JOIN)"
    r" usage_(?:daily\w*|monthly|period_total|record|total_change|totals_of_\w+)\b"
)

# Modules whose statements aggregate, but no totals.
OTHER_AGGREGATES = {
    "usage/monitoring/health.py": "counts faults of triggers in the catalogue",
    "usage/services/capture/citus.py": "counts the servers of a cluster",
    "usage/services/raw/future_days.py": "counts raw records of partitions in the catalogue",
    "usage/services/totals/indexes.py": "estimates sizes of indexes from the catalogue",
    "usage/database/lock_room.py": "counts partitions and indexes in the catalogue",
    "usage/services/audit/restores.py": "reads the highest key of a table, to compare its sequence",
    "usage/services/totals/dropping.py": "counts raw records of partitions in the catalogue",
    "usage/services/capture/sequences.py": "reads the names of constraints in the catalogue",
    "usage/services/totals/status.py": "adds up sizes of partitions in the catalogue",
}

# Names of tables and columns that the callers pass, and values where NULL is ambiguous.
IDENTIFIERS = {
    "_relation": "usage_daily",
    "_table": VoiceUsageRecord._meta.db_table,
    "_quantity": VoiceUsageRecord.quantity_column,
}
VALUES = {"rate": 0}
# Statements on whose tables others depend.
FIRST = ["create_total_change", "keep_periods", "number_subscriptions"]


def strings(file: Path) -> Iterator[str]:
    """Yield the strings of a module; an f-string counts as one."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def modules_with(*patterns: re.Pattern[str]) -> set[str]:
    """Return the modules that have SQL in a string in which all patterns are found."""
    return {
        str(file.relative_to(ROOT))
        for file in MODULES
        if any(all(found.search(text) for found in (SQL, *patterns)) for text in strings(file))
    }


def names_read() -> Iterator[tuple[str, str]]:
    """Yield module and name of each call of queries.read."""
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "queries.read":
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{file}: the name must be a literal"
                yield str(file.relative_to(ROOT)), str(name.value)


def test_only_files_aggregate() -> None:
    """Fails for a GROUP BY or an aggregate in a Python string, and for a reason without need."""
    assert modules_with(AGGREGATES) == OTHER_AGGREGATES.keys()
    assert modules_with(AGGREGATES, READS) == set()


def test_only_files_move_totals() -> None:
    assert modules_with(MOVES) == set()


def test_every_name_that_is_read_is_a_file() -> None:
    assert [(module, name) for module, name in names_read() if name not in NAMES] == []


def test_every_file_is_read() -> None:
    texts = [(FOLDER / f"{name}.sql").read_text() for name in NAMES]
    parts = {part for text in texts for part in queries.PART.findall(text)}
    assert set(NAMES) - {name for _, name in names_read()} - parts == set()


@pytest.mark.parametrize("name", NAMES)
def test_file_begins_with_a_comment(name: str) -> None:
    header = queries.HEADER.match((FOLDER / f"{name}.sql").read_text())
    assert header is not None
    assert 1 <= len(header[0].splitlines()) <= 3


@pytest.mark.django_db
def test_the_server_understands_every_statement() -> None:
    """Fails for a typo: the server plans each statement with NULL for each parameter."""
    with transaction.atomic():
        for name in sorted(STATEMENTS, key=lambda name: name not in FIRST):
            statement = queries.read(name, **IDENTIFIERS)
            parameters = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)) | VALUES
            explain = "" if name == "create_total_change" else "EXPLAIN "
            try:
                run_sql(explain + statement, parameters)
                if name in FIRST and explain:
                    run_sql(statement, parameters)
            except Exception as error:
                raise AssertionError(f"{name}.sql: {error}") from error
        transaction.set_rollback(True)


@pytest.mark.django_db
@pytest.mark.parametrize("subscription_ids", [[7], [7, 8], []])
def test_condition_of_a_sample_is_simple_enough_for_an_index(subscription_ids: list[int]) -> None:
    """Fails when the planner does not fold the part for no sample, which is not for an index."""
    statement = queries.read("list_differing_periods")
    parameters = {"all_days": "2000-01-01", "most": 1, "subscription_ids": subscription_ids}
    with transaction.atomic():
        run_sql("SET LOCAL enable_seqscan = off")
        plan = "\n".join(line for (line,) in run_sql(f"EXPLAIN {statement}", parameters))
    assert "subscription_id = ANY" in plan
    assert "IS NULL) OR" not in plan
