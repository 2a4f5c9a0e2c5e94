"""Who is answered what: the one table that says it, everybody who could ask, and all questions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from tests.usage.api.asking import LISTS
from usage.models import Scope

# all: the usage of everybody; own: of the caller's subscriptions; none: 401 from the API, to sign
# in from a page; no: 403. What a token of several scopes is answered is the most of them.
TABLE = """
    question       none usage:read usage:read:own refresh:read refresh:run person staff superuser
    usage          none all        own            no           no          own    all   all
    refreshes      none no         no             ok           no          no     ok    ok
    ask            none no         no             no           ok          no     ok    ok
    page           none none       none           none         none        own    all   all
    refreshes-page none none       none           none         none        no     ok    ok
    ask-page       none none       none           none         none        no     ok    ok
    admin-index    none none       none           none         none        none   ok    ok
    admin          none none       none           none         none        none   no    ok
    metrics        none none       none           none         none        none   none  none
    health         ok   ok         ok             ok           ok          ok     ok    ok
    description    ok   ok         ok             ok           ok          ok     ok    ok
"""
HEADER, *ROWS = (line.split() for line in TABLE.strip().splitlines())
DECIDED = {question: dict(zip(HEADER[1:], answers, strict=True)) for question, *answers in ROWS}
RANKS = ["none", "no", "own", "all", "ok"]

MONTH, DAYS = "month=2026-11", "from_date=2026-11-01&to_date=2026-11-30"
FORMS = {
    "usage/over-limit": ["", MONTH, "from_date=2026-11-01", "usage_type=voice", "page_size=1"],
    "usage/totals": ["", MONTH, "max_staleness=0", "page_size=1"],
    "usage/daily": ["", MONTH, "ordering=-total_price", "max_staleness=0", "page_size=1"],
    "usage/records": [],
    "subscriptions": ["", "page_size=1"],
}
NUMBERS = ("1", "2", "3", "4", "1,2", "999")
NAMES = (
    "",
    *(f"subscription_id={number}" for number in NUMBERS),
    *(f"external_id=line {number}" for number in NUMBERS),
)
FEW_NAMES = ("", "subscription_id=1", "subscription_id=2", "external_id=line 2")
PLAIN = ("", "subscription_id=2", "external_id=line 2")
PAGES = {
    "page": [
        f"/?{DAYS}",
        *(f"/?{DAYS}&subscription=line {number}" for number in NUMBERS),
        "/over-limit/?price_limit=1",
        f"/over-limit/?price_limit=1&{DAYS}",
        "/over-limit/?price_limit=1&usage_type=voice",
    ],
    "refreshes": ["/api/v1/refreshes/", "/api/v1/refreshes/{run}/", "/api/v1/refreshes/999999/"],
    "refreshes-page": ["/refreshes/", "/refreshes/{run}/"],
    "admin-index": ["/admin/"],
    "admin": [
        "/admin/usage/subscription/",
        *(f"/admin/usage/subscription/{number}/change/" for number in (1, 2)),
        "/admin/usage/subscription/2/records/?usage_type=data&day=2026-11-01",
        "/admin/usage/subscription/2/history/",
        "/admin/usage/refreshrun/",
        "/admin/usage/accesstoken/",
        "/admin/usage/accesstoken/add/",
        "/admin/auth/user/",
        "/admin/auth/group/",
    ],
    "metrics": ["/metrics"],
    "health": ["/health/live", "/health/ready"],
    "description": ["/api/v1/schema/", "/api/v1/docs/"],
}


@dataclass(frozen=True)
class Question:
    """What is asked, and the row of the table that says who is answered."""

    row: str
    path: str
    # Who may do nothing is asked no others: they differ in what is done after signing in.
    is_plain: bool = False
    method: str = "get"
    headers: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Caller:
    """Who asks: by a client that carries what it has, with the columns of the table it is in."""

    name: str
    client: Client
    columns: tuple[str, ...]
    # The columns where pages look at the session alone, and the API at the token.
    on_pages: tuple[str, ...]
    owns: frozenset[int] = frozenset()

    @property
    def is_nobody(self) -> bool:
        return {*self.columns, *self.on_pages} == {"none"}

    def expected(self, question: Question) -> str:
        """The most that any of its columns says."""
        is_api = question.path.startswith("/api/")
        row = DECIDED[question.row]
        return max(
            (row[column] for column in (self.columns if is_api else self.on_pages)), key=RANKS.index
        )


def questions(run_id: int, cursor_of: Callable[[str], str]) -> Iterator[Question]:
    """Every question, in every way to name a subscription; `cursor_of` is asked for the place
    after the first page of a list about everybody."""
    for path in LISTS:
        first, *others = forms_of(path)
        for name in NAMES:
            for how in ("", "format=csv"):
                yield Question("usage", address(path, first, name, how), name in PLAIN)
                if path not in ("usage/records", "subscriptions"):
                    live = address(path, first, name, how, "live=true")
                    yield Question("usage", live, name in PLAIN)
        for name in FEW_NAMES:
            yield from (Question("usage", address(path, form, name)) for form in others)
            asked = address(path, first, name)
            yield Question("usage", asked, name in PLAIN, headers={"If-None-Match": "*"})
            yield Question("usage", asked, name in PLAIN, method="head")
        if path != "usage/records":
            page = address(path, first, "page_size=1")
            yield Question("usage", f"{page}&cursor={cursor_of(page)}")
    for row, paths in PAGES.items():
        for path in paths:
            yield Question(row, path.format(run=run_id), is_plain=True)
    yield Question("ask", "/api/v1/refreshes/", is_plain=True, method="post")
    yield Question("ask-page", "/refreshes/", is_plain=True, method="post")


def forms_of(path: str) -> list[str]:
    """What may be asked of a list beside names of subscriptions; the first is the plainest."""
    if path == "usage/records":
        return [f"usage_type={kind}&day=2026-11-01" for kind in ("data", "voice")]
    return ["&".join(filter(None, (LISTS[path], form))) for form in FORMS[path]]


def address(path: str, *query: str) -> str:
    return f"/api/v1/{path}/?{'&'.join(filter(None, query))}"


def with_token(name: str, key: str, columns: tuple[str, ...], owns: frozenset[int]) -> Caller:
    """A machine client, to whom every page is closed."""
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=key)
    return Caller(name, client, columns, ("none",), owns)


def with_session(name: str, user: User, columns: tuple[str, ...], owns: frozenset[int]) -> Caller:
    """A person who has signed in."""
    client = APIClient(raise_request_exception=False)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return Caller(name, client, columns, columns, owns)


def scope_sets() -> list[tuple[Scope, ...]]:
    """Every combination of scopes that a token may have."""
    found = [scopes for size in range(1, len(Scope) + 1) for scopes in combinations(Scope, size)]
    return [scopes for scopes in found if not {Scope.READ, Scope.READ_OWN} <= set(scopes)]
