"""The commands that make, list and revoke tokens."""

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from tests.connections import run_sql
from tests.usage.api.api_requests import fill_totals, get
from usage.models import AccessToken

pytestmark = pytest.mark.django_db


def run(command: str, *arguments: str) -> tuple[str, str]:
    output, errors = StringIO(), StringIO()
    call_command(command, *arguments, stdout=output, stderr=errors)
    return output.getvalue(), errors.getvalue()


def test_the_key_alone_is_printed_and_opens_the_api() -> None:
    fill_totals()
    key, message = run(
        "make_token", "billing", "--new-user", "--name", "x", "--scope", "usage:read"
    )
    token = AccessToken.objects.get()
    assert message == f"Token {token.pk} of billing, for ever. Its key is not shown again:\n"
    client = APIClient(headers={"Authorization": f"Token {key.strip()}"})
    assert get(client, "subscriptions").status_code == 200
    assert not User.objects.get().has_usable_password()


def test_a_token_may_have_several_scopes_and_an_expiry() -> None:
    User.objects.create_user("anna")
    scopes = ["--scope", "usage:read:own", "--scope", "refresh:read"]
    _, message = run("make_token", "anna", "--name", "x", *scopes, "--days", "30")
    token = AccessToken.objects.get()
    assert token.scopes == ["usage:read:own", "refresh:read"]
    assert token.expires_at is not None
    assert (token.expires_at - token.created_at).days == 30
    assert f"until {token.expires_at:%Y-%m-%d %H:%M} UTC" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", "--scope", "usage:read"], "no user 'nobody'. Add --new-user"),
        (["anna", "--new-user", "--scope", "usage:read"], "a user 'anna' already"),
        (["anna", "--scope", "usage:write"], "invalid choice: 'usage:write'"),
        (["anna", "--scope", "usage:read", "--scope", "usage:read:own"], "not both"),
        (["anna", "--scope", "usage:read", "--days", "0"], "--days must be from 1"),
        (["anna", "--scope", "usage:read", "--name", "x" * 101], "1 to 100 characters"),
        (["anna"], "required: --scope"),
    ],
)
def test_invalid_options_are_refused_and_make_nothing(arguments: list[str], message: str) -> None:
    User.objects.create_user("anna")
    with pytest.raises(CommandError, match=message):
        run("make_token", "--name", "x", *arguments)
    assert not AccessToken.objects.exists()
    assert User.objects.count() == 1


def test_the_list_shows_everything_but_keys() -> None:
    assert run("list_tokens")[0] == "There are no tokens. Make one with: manage.py make_token\n"
    User.objects.create_user("anna")
    keys = [
        run("make_token", "anna", "--name", name, "--scope", "usage:read")[0].strip()
        for name in ("plain", "used", "revoked", "expired")
    ]
    ids = list(AccessToken.objects.order_by("pk").values_list("pk", flat=True))
    run_sql("UPDATE usage_accesstoken SET last_used_at = '2026-11-01 10:30Z' WHERE name = 'used'")
    run_sql("UPDATE usage_accesstoken SET revoked_at = '2026-11-01 10:30Z' WHERE name = 'revoked'")
    run_sql("UPDATE usage_accesstoken SET expires_at = '2026-11-01 10:30Z' WHERE name = 'expired'")
    listed, _ = run("list_tokens")
    assert listed.splitlines() == [
        f"{ids[0]}  plain (anna)  usage:read  does not expire  last used never",
        f"{ids[1]}  used (anna)  usage:read  does not expire  last used 2026-11-01 10:30 UTC",
        f"{ids[2]}  revoked (anna)  usage:read  revoked 2026-11-01 10:30 UTC  last used never",
        f"{ids[3]}  expired (anna)  usage:read  expired 2026-11-01 10:30 UTC  last used never",
    ]
    assert not any(key in listed for key in keys)


def test_a_revoked_token_is_refused() -> None:
    fill_totals()
    key, _ = run("make_token", "billing", "--new-user", "--name", "x", "--scope", "usage:read")
    client = APIClient(headers={"Authorization": f"Token {key.strip()}"})
    token = AccessToken.objects.get()
    assert run("revoke_token", str(token.pk))[0].startswith(f"Token {token.pk}, x, is revoked")
    assert get(client, "subscriptions").status_code == 401
    with pytest.raises(CommandError, match=r"no token 0\. See them with"):
        run("revoke_token", "0")
