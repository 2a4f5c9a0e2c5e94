"""The command forget_subscription: it removes the external_id for good and keeps the usage."""

import builtins
import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.management import CommandError, call_command

from tests.connections import run_sql
from tests.factories import make_subscription, refresh_totals
from tests.given import given, stored_totals
from usage.models import Subscription

pytestmark = pytest.mark.usefixtures("state")


def forget(*arguments: str) -> str:
    output = StringIO()
    call_command("forget_subscription", *arguments, stdout=output)
    return output.getvalue()


def reply(monkeypatch: pytest.MonkeyPatch, text: str | None) -> list[str]:
    """Reply with this text at the prompt, or with EOF; return the list that collects prompts."""
    prompts: list[str] = []

    def read_line(prompt: str) -> str:
        prompts.append(prompt)
        if text is None:
            raise EOFError
        return text

    monkeypatch.setattr(builtins, "input", read_line)
    return prompts


def test_name_is_replaced_and_totals_stay() -> None:
    given("""
        data   00441632960001  2026-11-01T10:00:00Z  1.25  10
        voice  00441632960001  2026-11-01T10:00:00Z  2.50  60
        data   B               2026-11-01T10:00:00Z  9     90
    """)
    refresh_totals()
    before = [total[1:] for total in stored_totals() if total[0] != "B"]
    subscription = Subscription.objects.get(external_id="00441632960001")
    output = forget("00441632960001", "--yes")
    subscription.refresh_from_db()
    assert re.fullmatch("forgotten-[0-9a-f]{32}", subscription.external_id)
    assert f"Subscription {subscription.pk} is now {subscription.external_id}." in output
    refresh_totals()
    after = [total[1:] for total in stored_totals() if total[0] != "B"]
    assert after == before
    assert len(after) == 2
    assert Subscription.objects.filter(external_id="B").exists()


def test_old_name_is_nowhere_in_the_database(django_user_model: Any) -> None:
    """Fails when a text column of any table still has it, such as the log of the admin."""
    subscription = make_subscription("00441632960001")
    staff = django_user_model.objects.create_user("staff")
    LogEntry.objects.log_actions(staff.pk, [subscription], CHANGE)
    assert LogEntry.objects.get().object_repr == "00441632960001"
    forget("00441632960001", "--yes")
    columns = run_sql(
        "SELECT table_name, column_name FROM information_schema.columns"
        " INNER JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        " AND data_type IN ('text', 'character varying', 'jsonb')"
    )
    assert ("usage_subscription", "external_id") in columns
    for table, column in columns:
        found = run_sql(f"SELECT FROM {table} WHERE {column}::text LIKE '%%00441632960001%%'")
        assert found == [], (table, column)


def test_two_forgotten_subscriptions_have_different_names() -> None:
    for name in ["A", "B"]:
        make_subscription(name)
        forget(name, "--yes")
    assert Subscription.objects.values("external_id").distinct().count() == 2


def test_a_subscription_may_be_named_by_its_id() -> None:
    subscription = make_subscription("A", id=4711)
    forget("4711", "--yes")
    subscription.refresh_from_db()
    assert subscription.external_id != "A"


def test_a_name_that_matches_two_subscriptions_is_refused() -> None:
    make_subscription("4711", id=1)
    make_subscription("B", id=4711)
    with pytest.raises(CommandError, match="external_id of subscription 1 and the id of another"):
        forget("4711", "--yes")
    assert set(Subscription.objects.values_list("external_id", flat=True)) == {"4711", "B"}
    forget("1", "--yes")
    assert not Subscription.objects.filter(external_id="4711").exists()


@pytest.mark.parametrize("name", ["nobody", "4711", "9" * 30, "", "-1"])
def test_unknown_name_is_an_error(name: str) -> None:
    with pytest.raises(CommandError, match="No subscription has"):
        forget("--yes", "--", name)


def test_dry_run_changes_and_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    make_subscription("A", id=7)
    prompts = reply(monkeypatch, "yes")
    assert "Would forget the external_id of subscription 7" in forget("A", "--dry-run")
    assert prompts == []
    assert Subscription.objects.get().external_id == "A"


def test_yes_at_the_terminal_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    make_subscription("A", id=7)
    prompts = reply(monkeypatch, "yes")
    forget("A")
    assert prompts == [
        "Forget the external_id of subscription 7, external_id 'A'? It can't be undone. [yes/no] "
    ]
    assert Subscription.objects.get().external_id != "A"


@pytest.mark.parametrize("text", ["", "no", "y", None])
def test_anything_else_changes_nothing(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    make_subscription("A")
    reply(monkeypatch, text)
    with pytest.raises(CommandError, match="Nothing was changed"):
        forget("A")
    assert Subscription.objects.get().external_id == "A"


def test_it_lists_places_that_may_still_hold_the_name(django_user_model: Any) -> None:
    make_subscription("A", owner=django_user_model.objects.create_user("owner"))
    output = forget("A", "--yes")
    for place in [
        "backups",
        "imported files",
        "logs of the proxy",
        "The account of its owner stays",
    ]:
        assert place in output
