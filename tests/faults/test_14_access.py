"""Every token and every person on every endpoint, every role on every relation: nothing leaks."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now

from tests.connections import ask, run_sql, second_session
from tests.factories import data_record, make_key, make_subscription, refresh_totals, voice_record
from tests.faults.access import (
    Caller,
    Request,
    requests,
    scope_sets,
    with_session,
    with_token,
)
from tests.faults.trials import Trials
from tests.logins import django_as, login_in
from tests.usage.api.api_requests import cursor_of
from tests.usage.api.test_permissions import ALL
from tests.usage.database.test_roles import (
    CALLABLE,
    CALLS,
    LETTERS,
    PURE,
    RELATIONS,
    ROLES,
    decided,
    is_denied,
    refusal,
)
from usage.models import AccessToken, RefreshRun, Scope, Subscription

# In the short form a caller without rights sends one request in so many.
FEW = 12
ANNAS = frozenset({1, 3})
# Parts that differ in each response.
VARYING = re.compile(
    rb'(?<="as_of":)"[^"]*"|(?<=name="csrfmiddlewaretoken" value=)"[^"]*"|\d+ seconds old'
    rb"|\d\d:\d\d:\d\d UTC"
)


@pytest.fixture
def world(state: None) -> dict[str, User]:
    """Store usage of both types of subscriptions 1 and 3 (anna's), 2 (bob's) and 4 (nobody's).

    carl owns none. Return the users by name.
    """
    users = {name: User.objects.create_user(name) for name in ("anna", "bob", "carl", "gone")}
    users["staff"] = User.objects.create_user("staff", is_staff=True)
    users["superuser"] = User.objects.create_superuser("superuser")
    owners = [users["anna"], users["bob"], users["anna"], None]
    for number, owner in enumerate(owners, start=1):
        subscription = make_subscription(f"line {number}", id=number, owner=owner)
        for day in (1, 2):
            data_record(subscription, f"2026-11-0{day}T10:00:00Z", f"{number * 7}.31", number)
            voice_record(subscription, f"2026-11-0{day}T11:00:00Z", f"{number * 5}.17", number)
    refresh_totals()
    return users


def alter_what_is_not_annas() -> None:
    """Change usage and subscriptions that a caller with anna's subscriptions must not see."""
    Subscription.objects.filter(pk=4).update(external_id="line four")
    bobs = Subscription.objects.get(pk=2)
    Subscription.objects.filter(pk=2).update(external_id="line two")
    run_sql("DELETE FROM usage_voiceusagerecord WHERE subscription_id = 4")
    data_record(bobs, "2026-11-01T10:00:00Z", "1999.99", 5)
    data_record(make_subscription("line 0", id=900), "2026-11-02T10:00:00Z", "12345.6", 9)
    refresh_totals()


def callers(users: dict[str, User], *, with_tokens: list[str]) -> Iterator[Caller]:
    """Yield every caller; the first two see everything. `with_tokens` users get every token."""
    reader = make_key(users["carl"], Scope.READ)
    yield with_token("reader", f"Token {reader}", ("usage:read",), frozenset())
    for name in ("superuser", "staff"):
        yield with_session(name, users[name], (name,), frozenset())
    yield with_session("anna", users["anna"], ("person",), ANNAS)
    yield with_session("carl", users["carl"], ("person",), frozenset())
    for name in with_tokens:
        owns = ANNAS if name == "anna" else frozenset[int]()
        for scopes in scope_sets():
            label = f"{name} {' '.join(scopes)}"
            yield with_token(label, f"Token {make_key(users[name], *scopes)}", scopes, owns)
            for ended in ("expires_at", "revoked_at"):
                key = make_key(users[name], *scopes)
                AccessToken.objects.filter(pk=AccessToken.objects.latest("pk").pk).update(
                    **{ended: Now()}
                )
                yield with_token(f"{label} {ended}", f"Token {key}", ("none",), frozenset())
    for scopes in scope_sets():
        key = make_key(users["gone"], *scopes)
        yield with_token(f"gone {' '.join(scopes)}", f"Token {key}", ("none",), frozenset())
    yield with_session("gone", users["gone"], ("none",), frozenset())
    User.objects.filter(username="gone").update(is_active=False)
    for key in (
        "",
        "Token",
        "Token x",
        f"Basic {reader}",
        f"Bearer {reader[:-1]}",
        f"Token {reader}0",
        f"Token {reader} {reader}",
        f"Token {reader.upper()}",
        f"Token {AccessToken.objects.earliest('pk').digest}",
        f"{reader}",
    ):
        yield with_token(key[:12] or "nobody", key, ("none",), frozenset())
    # If a request has a token and a session, the API uses the token.
    own = make_key(users["anna"], Scope.READ_OWN)
    for name, key, columns in (
        ("staff with anna's token", own, ("usage:read:own",)),
        ("staff with a bad token", "bad", ("none",)),
    ):
        caller = with_session(name, users["staff"], ("staff",), ANNAS)
        caller.client.defaults["HTTP_AUTHORIZATION"] = f"Token {key}"
        yield Caller(name, caller.client, columns, ("staff",), ANNAS)


@dataclass(frozen=True)
class Response:
    """A response without the parts that differ each time; of a page, the part below its header."""

    status: int
    outcome: str
    body: bytes
    tag: str | None


def send(caller: Caller, request: Request) -> Response:
    method = getattr(caller.client, request.method)
    response = method(request.path, headers=request.headers)
    text = VARYING.sub(b"0", response.getvalue())
    outcome = "answered"
    if response.status_code == 401 or "/login/?next=" in response.get("Location", ""):
        outcome = "none"
    elif response.status_code == 403:
        outcome = "no"
    return Response(
        response.status_code,
        outcome,
        text.partition(b'<main id="main"')[2] or text,
        response.get("ETag"),
    )


def own_part(request: Request, everything: Any, owns: frozenset[int]) -> Any:
    """Return the rows of a response about everybody that the owner of these may see."""
    if "usage/records" in request.path:
        named = request.path.partition("subscription_id=")[2].partition("&")[0]
        return everything if named.isdigit() and int(named) in owns else everything[:0]
    if "format=csv" in request.path:
        return [line for line in everything if int(line.partition(b",")[0]) in owns]
    return [row for row in everything if row["subscription_id"] in owns]


def rows_in(request: Request, response: Response) -> Any:
    """Return the rows of a response of the API, from JSON or from a CSV without its header."""
    if "format=csv" in request.path:
        return response.body.splitlines()[1:]
    return json.loads(response.body)["results"]


def assert_expected(
    caller: Caller, request: Request, response: Response, everything: Response
) -> None:
    """Compare a response with the table; `everything` is the response to a reader of all usage."""
    expected, details = caller.expected(request), (caller.name, request, response)
    assert response.outcome == (expected if expected in {"none", "no"} else "answered"), details
    if expected == "all":
        assert (response.status, response.body) == (everything.status, everything.body), details
    if expected != "own" or request.row != "usage":
        return
    assert response.tag is None, details
    if "cursor=" in request.path:
        assert response.status == 400, details
        return
    assert response.status == (200 if everything.status == 304 else everything.status), details
    is_one_page = "page_size=1" in request.path and "format=csv" not in request.path
    if response.status == 200 == everything.status and request.method == "get" and not is_one_page:
        own = own_part(request, rows_in(request, everything), caller.owns)
        assert rows_in(request, response) == own, details


def cursor_after(caller: Caller, path: str) -> str:
    """Return the cursor after the first page that the caller sees."""
    return cursor_of(caller.client.get(path).json())


def test_responses_follow_the_table_and_have_nothing_of_others(
    world: dict[str, User], trials: Trials
) -> None:
    """A caller with one user's subscriptions gets the same bytes after others' usage changed.

    Fails when an endpoint accepts another scope, when a query is not filtered by the owner, when
    an owner's response has an ETag, or when a page looks up a subscription of somebody else.
    """
    run = RefreshRun.objects.latest("pk").pk
    users = ["anna", "carl", "staff"] if trials.full else ["anna"]
    everybody = list(callers(world, with_tokens=users))
    reader, superuser = everybody[:2]
    every_request = list(requests(run, cursor_of=lambda path: cursor_after(reader, path)))
    plain = [request for request in every_request if request.is_plain]
    chosen = []
    for number, caller in enumerate(everybody):
        possible = plain if caller.is_nobody or not trials.full else every_request
        step = FEW if caller.is_nobody and not trials.full else 1
        chosen += [(caller, request) for request in possible[number % step :: step]]
    seen: dict[tuple[Caller, Request], Response] = {}
    references: dict[Request, Response] = {}
    differing = 0
    with login_in("usage_web") as login:
        with django_as(login):
            for caller, request in chosen:
                who = reader if request.row == "usage" else superuser
                if request not in references:
                    references[request] = send(who, request)
                response = send(caller, request)
                assert_expected(caller, request, response, references[request])
                trials.count("pairs of caller and question")
                if caller.expected(request) == "own":
                    seen[caller, request] = response
        alter_what_is_not_annas()
        with django_as(login):
            changed = {request for request in references if request.row in {"usage", "page"}}
            for request in list(changed):
                who = reader if request.row == "usage" else superuser
                if send(who, request).body == references[request].body:
                    changed.remove(request)
            for (caller, request), before in seen.items():
                assert send(caller, request) == before, (caller.name, request)
                trials.count("asked again after others' usage changed")
                differing += request in changed
    assert differing > len(seen) / 10
    trials.count("of which answers about everybody changed", differing)


def group(path: str) -> str | None:
    """Return the row of the table for a path, or another reason why it is open; None if unknown."""
    for pattern, row in (
        (r"/api/v1/(usage/[\w-]+|subscriptions)(/|\.csv)", "usage"),
        (r"/api/v1/refreshes/(1/)?", "refreshes"),
        (r"/(over-limit/)?", "page"),
        (r"/refreshes/(1/)?", "refreshes-page"),
        (r"/admin/.*", "admin"),
        (r"/metrics", "metrics"),
        (r"/health/\w+", "health"),
        (r"/api/v1/((schema|docs)/)?", "description"),
        (r"/(login|logout)/", "signs in and out"),
    ):
        if re.fullmatch(pattern, path):
            return row
    return None


def test_every_path_is_in_the_table() -> None:
    """Fails when a new endpoint has no row in the table."""
    assert [path for path in ALL if group(path) is None] == []


FUNCTIONS = """
SELECT proname FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype
"""
GRANTED_ON = """
SELECT count(*) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND CASE relkind
    WHEN 'S' THEN has_sequence_privilege(
        oid, 'USAGE WITH GRANT OPTION, SELECT WITH GRANT OPTION, UPDATE WITH GRANT OPTION'
    )
    WHEN 'i' THEN FALSE
    WHEN 'I' THEN FALSE
    ELSE has_table_privilege(
        oid, 'SELECT WITH GRANT OPTION, INSERT WITH GRANT OPTION, UPDATE WITH GRANT OPTION,'
        ' DELETE WITH GRANT OPTION, TRUNCATE WITH GRANT OPTION'
    )
END
"""
EVERYWHERE = """
SELECT
    has_schema_privilege('public', 'CREATE'),
    has_database_privilege(current_database(), 'CREATE'),
    (SELECT count(*) FROM pg_largeobject_metadata)::int,
    (SELECT count(*) FROM pg_foreign_server)::int
"""


def test_every_role_has_the_privileges_of_the_table(state: None, trials: Trials) -> None:
    """No role, each role and each combination, on every relation, sequence and function.

    Fails when a grant is added or lost, or when PUBLIC has a privilege.
    """
    refresh_totals()
    for size in range(len(ROLES) + 1):
        for roles in combinations(ROLES, size):
            name = "_".join(["usage_roles", *(role.removeprefix("usage_") for role in roles)])
            password = connection.settings_dict["PASSWORD"] or None
            run_sql(f"DROP ROLE IF EXISTS {name}")
            run_sql(f"CREATE ROLE {name} LOGIN PASSWORD %s", [password])
            try:
                for role in roles:
                    run_sql(f"GRANT {role} TO {name}")
                with second_session(user=name) as session:
                    assert_privileges(session, roles, trials)
            finally:
                run_sql(f"DROP ROLE {name}")


def assert_privileges(session: Any, roles: tuple[str, ...], trials: Trials) -> None:
    version = ask(session, "SHOW server_version_num")[0][0]
    tried = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
    if int(version) >= 170000:
        tried.append("MAINTAIN")
    for relation, kind, is_partition, _, privileges in ask(session, RELATIONS):
        letters = {LETTERS.get(word, word) for word in privileges.split()}
        wanted = {
            letter
            for role in roles
            for letter in decided(relation, role, is_partition=is_partition)
        }
        assert letters == wanted - {"-"}, (relation, roles)
        if kind != "S" and "MAINTAIN" in tried:
            assert ask(session, "SELECT has_table_privilege(%s, 'MAINTAIN')", [relation]) == [
                (False,)
            ], (relation, roles)
        trials.count("pairs of role and privilege", 3 if kind == "S" else len(tried))
    functions = {name for (name,) in ask(session, FUNCTIONS)}
    assert functions == set(CALLS), "Decide in test_roles.py who may call which function."
    allowed = PURE.union(*(CALLABLE[role] for role in roles))
    for name in functions:
        refused = refusal(session, CALLS[name])
        assert is_denied(refused) if name not in allowed else refused == "", (name, roles, refused)
        trials.count("pairs of role and privilege")
    assert ask(session, GRANTED_ON) == [(0,)]
    assert ask(session, EVERYWHERE) == [(False, False, 0, 0)]
