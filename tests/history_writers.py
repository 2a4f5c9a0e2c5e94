"""Writers of a random history: sessions that may hold a transaction open between two steps."""

import re
from dataclasses import dataclass, field
from io import StringIO

import psycopg2
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests import histories
from tests.connections import ON_CITUS, ask
from tests.histories import SUBSCRIPTIONS, Copy, Row, Statement, columns

LEVELS = ["READ COMMITTED", "REPEATABLE READ"]

# A Citus cluster refuses to move a record to another subscription. There an error of a COPY has no
# SQLSTATE, and a session that waits too long for a lock of another server is cancelled.
MOVES = re.compile("MERGE|UPDATE [a-z_]+ SET subscription_id")

# Errors that any writer of these tables may get, with or without totals.
ORDINARY = (errors.UniqueViolation, errors.LockNotAvailable, errors.SerializationFailure)


@dataclass
class Writer:
    session: Connection
    level: str | None = None
    savepoints: list[str] = field(default_factory=list)
    # Its TRUNCATE blocks every reader of a raw table, and the refresh, until it ends.
    truncated: bool = False

    def begin(self, level: str) -> None:
        self.level = level
        ask(self.session, f"BEGIN ISOLATION LEVEL {level}")

    def end(self, how: str = "ROLLBACK") -> None:
        if self.level is not None:
            ask(self.session, how)
        self.level, self.truncated, self.savepoints = None, False, []

    def set_savepoint(self) -> None:
        self.savepoints.append(f"s{len(self.savepoints)}")
        ask(self.session, f"SAVEPOINT {self.savepoints[-1]}")

    def end_savepoint(self, how: str) -> None:
        ask(self.session, f"{how} SAVEPOINT {self.savepoints.pop()}")

    def write(self, step: Statement | Copy, *, guarded: bool) -> psycopg2.Error | None:
        """Write and return the error, if any. Only a guarded write keeps its transaction then."""
        guarded = guarded and self.level is not None
        if guarded:
            self.set_savepoint()
        try:
            self._write(step)
        except psycopg2.Error as error:
            if guarded:
                self.end_savepoint("ROLLBACK TO")
            else:
                self.end()
            return error
        if guarded:
            self.end_savepoint("RELEASE")
        return None

    def _write(self, step: Statement | Copy) -> None:
        match step:
            case Statement(text):
                ask(self.session, text)
                if text.startswith("TRUNCATE") and self.level is not None:
                    self.truncated = True
            case Copy(table, some):
                lines = "".join("\t".join(row.fields) + "\n" for row in some)
                with self.session.cursor() as cursor:
                    cursor.copy_expert(
                        f"COPY {table} ({columns(table)}) FROM STDIN", StringIO(lines)
                    )


def is_ordinary(error: psycopg2.Error, step: Statement | Copy, level: str | None) -> bool:
    """Return whether a writer may get this error."""
    if isinstance(error, errors.CheckViolation):
        if ON_CITUS:  # there only the message has the name
            return "usage_raw_kept_from" in str(error)
        return (error.diag.constraint_name or "").startswith("usage_raw_kept_from")
    if isinstance(error, errors.InvalidTransactionState):
        truncates = isinstance(step, Statement) and step.text.startswith("TRUNCATE")
        return truncates and level == "REPEATABLE READ"
    if ON_CITUS and isinstance(error, (errors.FeatureNotSupported, errors.InternalError_)):
        return isinstance(step, Copy) or bool(MOVES.match(step.text))
    if ON_CITUS and isinstance(error, errors.QueryCanceled):
        return True
    return isinstance(error, ORDINARY)


def writes_at(moments: list[str]) -> SearchStrategy[Statement | Copy]:
    """Return a strategy of all kinds of writes to records of these moments."""
    rows = st.builds(
        Row,
        number=st.integers(1, 4),
        subscription_id=st.sampled_from(SUBSCRIPTIONS),
        usage_date=st.sampled_from(moments),
        price=histories.prices,
        quantity=st.sampled_from([0, 1, 59, 2**32]),
    )
    lists = st.lists(
        rows,
        min_size=1,
        max_size=8,
        unique_by=lambda row: (row.number, row.subscription_id, row.usage_date),
    )
    conditions = st.one_of(
        st.sampled_from(SUBSCRIPTIONS).map("subscription_id = {}".format),
        st.sampled_from(moments).map("usage_date = '{}'".format),
        st.sampled_from(moments).map("usage_date >= '{}'".format),
        st.integers(1, 4).map("id = '00000000-0000-0000-0000-{:012d}'".format),
    )
    tables, moment = histories.tables, st.sampled_from(moments)
    subscription = st.sampled_from(SUBSCRIPTIONS)
    truncates = [f"TRUNCATE {histories.DATA}", f"TRUNCATE {histories.DATA}, {histories.VOICE}"]
    inserts = st.builds(histories.insert_select, tables, lists)
    return st.one_of(
        inserts,
        inserts,
        st.builds(Copy, tables, lists),
        st.builds(histories.upsert, tables, lists),
        st.builds(histories.merge, tables, lists),
        st.builds(histories.merge_and_move, tables, lists, moment, actions=histories.merge_actions),
        st.builds(histories.update, tables, rows, conditions),
        st.builds(histories.move_to_day, tables, moment, conditions),
        st.builds(histories.move_to_subscription, tables, subscription, conditions),
        st.builds(histories.delete, tables, conditions),
        st.integers(0, 9).flatmap(
            lambda n: inserts if n else st.sampled_from(truncates).map(Statement)
        ),
    )
