"""A third usage type, added to a copy of the project by the recipe of CONTRIBUTING.md."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import psycopg2
import pytest

from tests.connections import ask, in_thread, second_session, wait_until
from tests.logins import login_in
from tests.processes import ROOT, database_url, scratch_database
from usage.sql import TypeInSQL
from usage.sql.usage_types import AddUsageType

pytestmark = [
    pytest.mark.usefixtures("state"),
    pytest.mark.one_server("no record comes late there"),
]

TODAY = datetime.now(UTC).date()
SEALED_DAY, OPEN_DAY = TODAY - timedelta(5), TODAY
SHAPE = """
SELECT relname, relkind::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'usage\\_%'
UNION ALL
SELECT proname, md5(prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT viewname, md5(definition) FROM pg_views WHERE schemaname = 'public'
UNION ALL
SELECT matviewname, md5(definition) FROM pg_matviews WHERE schemaname = 'public'
ORDER BY 1, 2
"""
WAITING = """
SELECT count(*) FROM pg_locks INNER JOIN pg_database ON pg_database.oid = pg_locks.database
WHERE datname = current_database() AND NOT granted
"""
# Requests to the pages and the API, sent inside the copy of the project.
ASK = """
import json, sys
from django.contrib.auth.models import User
from django.test import Client
user = User.objects.get_or_create(username="staff", is_staff=True, is_superuser=True)[0]
client = Client(SERVER_NAME="127.0.0.1")
client.force_login(user)
responses = []
for path in sys.argv[1:]:
    response = client.get(path)
    body = response.content if not response.streaming else b"".join(response.streaming_content)
    responses.append([response.status_code, body.decode()])
print("RESPONSES", json.dumps(responses))
"""


def recipe() -> str:
    """The diff of CONTRIBUTING.md that adds SMS."""
    (diff,) = re.findall(
        r"^```diff\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S
    )
    return diff


def apply(diff: str, root: Path) -> list[str]:
    """Apply a diff without line numbers, whose hunks must fit in one place; the changed files."""
    changed = []
    for part in re.split(r"^--- .*\n\+\+\+ b/", diff, flags=re.M)[1:]:
        name, *lines = part.splitlines(keepends=True)
        path = root / name.strip()
        text = path.read_text() if path.exists() else ""
        for hunk in re.split(r"^@@\n", "".join(lines), flags=re.M)[1:]:
            rows = hunk.splitlines(keepends=True)
            old = "".join(row[1:] for row in rows if row[0] in " -")
            new = "".join(row[1:] for row in rows if row[0] in " +")
            assert not text or text.count(old) == 1, f"{name}: not in one place: {old}"
            text = text.replace(old, new) if text else new
        path.write_text(text)
        changed.append(name.strip())
    return changed


class Copy:
    """A copy of the project with a database of its own."""

    def __init__(self, root: Path, database: str) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "DATABASE_URL": database_url(database),
            "USAGE_OPEN_DAYS": "2",
            "USAGE_RAW_RETENTION_DAYS": "30",
        }

    def python(self, *arguments: str, exit_code: int = 0, **environment: str) -> str:
        """Run Python in the copy; its output."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def manage(self, *arguments: str, exit_code: int = 0, **environment: str) -> str:
        return self.python("manage.py", *arguments, exit_code=exit_code, **environment)

    def get(self, *paths: str) -> list[tuple[int, str]]:
        """Status and body of each path."""
        output = self.manage("shell", "-v0", "-c", ASK.replace("sys.argv[1:]", repr(paths)))
        (line,) = re.findall(r"^RESPONSES (.*)$", output, re.M)
        return [(status, body) for status, body in json.loads(line)]


@contextmanager
def copy_of_the_project(place: Path) -> Iterator[tuple[Copy, Any, str]]:
    root = place / "project"
    for name in ["usage", "config", "worker"]:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "manage.py", root)
    with (
        scratch_database() as database,
        second_session(dbname=database, autocommit=True) as session,
    ):
        yield Copy(root, database), session, database


def write_csv(path: Path, *lines: str) -> str:
    header = "usage_type,external_id,usage_date,quantity,price,record_key"
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def test_sms_is_added_by_the_recipe_and_goes_all_the_way(tmp_path: Path) -> None:
    """Fails where something knows data and voice only: each step below is about SMS."""
    with copy_of_the_project(tmp_path) as (copy, session, database):
        total = read_total(session)
        copy.manage("migrate", "-v0")
        old = write_csv(tmp_path / "old.csv", f"data,a,{SEALED_DAY}T10:00:00Z,7,1.5,k0")
        copy.manage("import_usage", old)
        copy.manage("refresh_usage")
        copy.manage("refresh_usage")
        changed = apply(recipe(), copy.root)
        assert len(changed) <= 8
        assert "No changes detected" in copy.manage("makemigrations", "--check", "--dry-run")
        warned = copy.manage("check", "--database", "default")
        assert "The usage type sms is not the same" in warned
        copy.manage("migrate", "-v0")
        assert "no issues" in copy.manage("check", "--database", "default")

        # Import: one for a sealed day, which is late, and two for an open one.
        file = write_csv(
            tmp_path / "sms.csv",
            f"sms,a,{SEALED_DAY}T10:00:00Z,3,0.30,k1",
            f"sms,a,{OPEN_DAY}T00:00:01Z,5,0.50,k2",
            f"sms,b,{OPEN_DAY}T00:00:01Z,100,10,k3",
            f"fax,b,{OPEN_DAY}T00:00:01Z,100,10,k4",
        )
        report = copy.manage("import_usage", file, exit_code=1)
        assert "3 added" in report
        assert "data or voice or sms" in (tmp_path / "sms.csv.rejects").read_text()
        # Live, before a refresh; the stored totals do not have it yet.
        assert total("usage_daily_live", "a", OPEN_DAY) == (Decimal("0.50"), 5, 1)
        assert total("usage_daily_live", "a", SEALED_DAY) == (Decimal("0.30"), 3, 1)
        assert total("usage_daily", "a", OPEN_DAY) is None
        copy.manage("refresh_usage")
        assert total("usage_daily", "a", OPEN_DAY) == (Decimal("0.50"), 5, 1)
        assert total("usage_daily_sealed", "a", SEALED_DAY) == (Decimal("0.30"), 3, 1)
        # A correction of a sealed day is captured by the triggers of the new table.
        ask(
            session,
            "UPDATE usage_smsusagerecord SET messages_sent = 4, price = 0.4 WHERE price = 0.3",
        )
        copy.manage("refresh_usage")
        assert total("usage_daily", "a", SEALED_DAY) == (Decimal("0.4"), 4, 1)
        assert "no issues" in copy.manage("check", "--database", "default")
        assert "0 keys and 0 totals of periods differ" in copy.manage("verify_usage")

        check_api_and_pages(copy)
        check_analyst(database)

        # Retention drops the records and keeps the total; then the day is closed for new ones.
        copy.manage("prune_usage", "--days-passed", USAGE_RAW_RETENTION_DAYS="3")
        assert total("usage_daily", "a", SEALED_DAY) == (Decimal("0.4"), 4, 1)
        assert ask(session, "SELECT count(*) FROM usage_smsusagerecord") == [(2,)]
        with pytest.raises(psycopg2.errors.CheckViolation, match="is closed"):
            ask(
                session,
                "INSERT INTO usage_smsusagerecord (subscription_id, usage_date, messages_sent)"
                f" VALUES (1, '{SEALED_DAY}T10:00Z', 1)",
            )
        copy.manage("generate_usage", "--subscriptions", "3", "--days", "1", "--records", "600")
        ((made,),) = ask(session, "SELECT count(*) FROM usage_smsusagerecord")
        assert 50 < made < 150  # a sixth of them
        refused = copy.manage("migrate", "usage", "0018", exit_code=1)
        assert "There is usage of type sms" in refused


def read_total(session: Any) -> Callable[..., Any]:
    def total(relation: str, name: str, day: Any) -> Any:
        rows = ask(
            session,
            f"SELECT total_price, total_usage, record_count FROM {relation}"
            " INNER JOIN usage_subscription ON id = subscription_id"
            " WHERE usage_type = 'sms' AND external_id = %s AND day = %s",
            [name, day],
        )
        return rows[0] if rows else None

    return total


def check_api_and_pages(copy: Copy) -> None:
    over, totals, csv, records, page, limits, admin = copy.get(
        "/api/v1/usage/over-limit/?price_limit=0.9&usage_type=sms",
        "/api/v1/usage/totals/?usage_type=sms",
        "/api/v1/usage/daily.csv?usage_type=sms",
        f"/api/v1/usage/records/?subscription_id=1&usage_type=sms&day={SEALED_DAY}",
        f"/?from_date={SEALED_DAY}&to_date={OPEN_DAY}",
        "/over-limit/?price_limit=5",
        "/admin/usage/subscription/",
    )
    assert over[0] == 200, over
    exceeded = [row["exceeded"] for row in json.loads(over[1])["results"]]
    assert exceeded == [
        [{"usage_type": "sms", "total_price": "10", "exceeded_by": "9.1"}],
        [{"usage_type": "sms", "total_price": "0.9", "exceeded_by": "0"}],
    ]
    assert totals[0] == 200, totals
    units = {row["unit"] for row in json.loads(totals[1])["results"]}
    assert units == {"messages"}
    assert csv[0] == 200, csv
    assert csv[1].count(",sms,") == 3
    assert records[0] == 200, records
    assert [row["quantity"] for row in json.loads(records[1])["results"]] == [4]
    assert page[0] == limits[0] == admin[0] == 200
    assert "SMS by day" in page[1]
    assert 'class="card type-3"' in page[1]
    assert "messages" in page[1]
    assert "SMS" in limits[1]
    assert "sms, all days" in admin[1].lower()
    refused = copy.get("/api/v1/usage/totals/?usage_type=fax")[0]
    assert refused[0] == 400
    assert "Give data or voice or sms." in refused[1]


def check_analyst(database: str) -> None:
    """An analyst reads the type, its months and its unit in SQL."""
    with (
        login_in("usage_analyst") as login,
        second_session(user=login, dbname=database) as session,
    ):
        assert ask(
            session,
            "SELECT usage_type.unit, sum(total_usage) FROM usage_daily"
            " INNER JOIN usage_type USING (usage_type) WHERE usage_type = 'sms' GROUP BY unit",
        ) == [("messages", 109)]
        ((months,),) = ask(
            session, "SELECT sum(record_count) FROM usage_monthly WHERE usage_type = 'sms'"
        )
        assert months == 3


def use_until(over: Event, database: str) -> int:
    """Read and write in transactions of several statements, as clients do; returns how many."""
    done = 0
    with second_session(dbname=database) as session:
        ask(session, "INSERT INTO usage_subscription (external_id) VALUES ('c')")
        session.commit()
        while not over.is_set():
            ask(session, "SELECT count(*) FROM usage_daily")
            ask(session, "SELECT count(*) FROM usage_daily_live")
            ask(
                session,
                "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
                " SELECT max(id), now(), 1 FROM usage_subscription",
            )
            ask(session, "SELECT count(*) FROM usage_daily")
            session.commit()
            done += 1
    return done


def test_type_comes_and_goes_while_others_read_and_write(tmp_path: Path) -> None:
    """Fails when the way up or down ends a transaction of others in a deadlock, when it leaves a
    relation behind, or a view that reads the dropped table."""
    with copy_of_the_project(tmp_path) as (copy, session, database):
        copy.manage("migrate", "-v0")
        before = ask(session, SHAPE)
        apply(recipe(), copy.root)
        over = Event()
        with in_thread(lambda: use_until(over, database)) as used:
            for _ in range(2):
                copy.manage("migrate", "-v0")
                assert ask(session, SHAPE) != before
                copy.manage("migrate", "-v0", "usage", "0018")
                assert ask(session, SHAPE) == before
            over.set()
            done = used.result(30)
        assert done > 10
        copy.manage("migrate", "-v0")
        copy.manage("refresh_usage")
        assert ask(session, "SELECT sum(record_count) FROM usage_daily") == [(done,)]


def test_going_back_keeps_a_record_that_is_written_meanwhile(tmp_path: Path) -> None:
    """Fails when the way down looks for records only before it locks the raw table."""
    with copy_of_the_project(tmp_path) as (copy, session, database):
        apply(recipe(), copy.root)
        copy.manage("migrate", "-v0")
        with second_session(dbname=database) as writer:
            ask(
                writer,
                "INSERT INTO usage_smsusagerecord (subscription_id, usage_date, messages_sent)"
                " VALUES (1, now(), 1)",
            )
            with in_thread(
                lambda: copy.manage("migrate", "-v0", "usage", "0018", exit_code=1)
            ) as migrating:
                wait_until(
                    lambda: ask(session, WAITING) != [(0,)],
                    seconds=60,
                    what="the migration to wait for the writer",
                )
                writer.commit()
                assert "There is usage of type sms" in migrating.result(60)
        assert ask(session, "SELECT count(*) FROM usage_smsusagerecord") == [(1,)]


def test_going_back_leaves_no_total_of_deleted_records(tmp_path: Path) -> None:
    """Fails when totals of the type outlive it: no refresh ran after its records were deleted."""
    with copy_of_the_project(tmp_path) as (copy, session, database):
        apply(recipe(), copy.root)
        copy.manage("migrate", "-v0")
        copy.manage(
            "import_usage",
            write_csv(
                tmp_path / "both.csv",
                f"sms,a,{OPEN_DAY}T00:00:01Z,5,0.50,k1",
                f"data,a,{OPEN_DAY}T00:00:01Z,5,0.50,k2",
            ),
        )
        copy.manage("refresh_usage")
        ask(session, "DELETE FROM usage_smsusagerecord")
        copy.manage("migrate", "-v0", "usage", "0018")
        Copy(ROOT, database).manage("refresh_usage")
        assert ask(session, "SELECT DISTINCT usage_type FROM usage_daily") == [("data",)]
        assert ask(session, "SELECT DISTINCT usage_type FROM usage_period_total") == [("data",)]


def test_a_new_database_gets_all_types_at_once(tmp_path: Path) -> None:
    """Fails when an earlier migration expects the table of a type that a later one makes."""
    with copy_of_the_project(tmp_path) as (copy, session, _):
        apply(recipe(), copy.root)
        copy.manage("migrate", "-v0")
        assert "no issues" in copy.manage("check", "--database", "default")
        copy.manage("refresh_usage")
        copy.manage("migrate", "-v0", "usage", "zero")
        assert ask(session, "SELECT to_regclass('usage_smsusagerecord')") == [(None,)]


def test_a_window_refuses_closed_days_of_the_new_type_too(tmp_path: Path) -> None:
    """Fails when the new table has no check for closed days, or triggers that a window has not."""
    with copy_of_the_project(tmp_path) as (copy, session, _):
        copy.environment |= {
            "USAGE_LATE_KEYS": "window",
            "USAGE_OPEN_DAYS": "5",
            "USAGE_RAW_RETENTION_DAYS": "5",
        }
        copy.manage("migrate", "-v0")
        copy.manage("refresh_usage")
        apply(recipe(), copy.root)
        copy.manage("migrate", "-v0")
        assert "no issues" in copy.manage("check", "--database", "default")
        with pytest.raises(psycopg2.errors.CheckViolation, match="usage_raw_kept_from"):
            ask(
                session,
                "INSERT INTO usage_smsusagerecord (subscription_id, usage_date, messages_sent)"
                f" VALUES (1, '{TODAY - timedelta(9)}T10:00Z', 1)",
            )


@pytest.mark.parametrize(
    ("column", "old", "new"),
    [
        ("usage_type", 'TypeInSQL("sms"', 'TypeInSQL("data"'),
        ("label", '"SMS"', '"Voice"'),
        ("raw_table", '"usage_smsusagerecord", "messages', '"usage_datausagerecord", "messages'),
    ],
)
def test_migration_refuses_what_another_type_has(
    column: str, old: str, new: str, tmp_path: Path
) -> None:
    with copy_of_the_project(tmp_path) as (copy, _, _):
        apply(recipe(), copy.root)
        migration = copy.root / "usage/migrations/0019_sms.py"
        migration.write_text(migration.read_text().replace(old, new))
        assert f"has the {column} " in copy.manage("migrate", "-v0", exit_code=1)


def test_unit_and_label_may_have_quotes(tmp_path: Path) -> None:
    with copy_of_the_project(tmp_path) as (copy, session, _):
        diff = recipe().replace('"messages"', '"messages\' 5%s; "').replace('"SMS"', '"S\'M%S"')
        apply(diff, copy.root)
        copy.manage("migrate", "-v0")
        assert "no issues" in copy.manage("check", "--database", "default")
        assert ask(
            session,
            "SELECT unit, label, col_description('usage_smsusagerecord'::regclass, attnum)"
            " FROM usage_type, pg_attribute WHERE usage_type = 'sms'"
            " AND attrelid = 'usage_smsusagerecord'::regclass AND attname = 'messages_sent'",
        ) == [("messages' 5%s; ", "S'M%S", "Quantity used, in messages' 5%s; , from 0 to 2^32.")]


@pytest.mark.parametrize("name", ["usage_SmsRecord", "1sms", "s" * 41, "a b", 'a"b'])
def test_a_name_that_needs_quotes_or_is_too_long_is_refused(name: str) -> None:
    usage_type = TypeInSQL("sms", "SMS", "messages", name, "messages_sent")
    with pytest.raises(ValueError, match="lower case"):
        AddUsageType(usage_type, model="SmsUsageRecord", versions={})


def test_check_names_a_type_without_a_raw_table_and_a_raw_table_without_a_type(
    tmp_path: Path,
) -> None:
    with copy_of_the_project(tmp_path) as (copy, _, _):
        apply(recipe(), copy.root)
        models = copy.root / "usage/models/records.py"
        whole = models.read_text()
        models.write_text(whole.replace("    UsageType.SMS: SmsUsageRecord,\n", ""))
        refused = copy.manage("check", exit_code=1)
        assert "The usage type sms has no raw table." in refused
        assert "The raw table usage_smsusagerecord has no usage type." in refused
        models.write_text(whole.replace('"sms", "messages", "SMS"', '"sms", "SMS"'))
        assert "The usage type sms has no unit" in copy.manage("check", exit_code=1)
        models.write_text(whole.replace('"sms", "messages", "SMS"', '"data", "messages", "SMS"'))
        assert "duplicate values found" in copy.manage("check", exit_code=1)
