"""The table of access: the expected outcome for each request of each caller."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from tests.usage.api.api_requests import LISTS
from usage.models import Scope

# all: the usage of everybody; own: of the caller's subscriptions; none: 401 from the API, or the
# login from a page; no: 403. A token with several scopes gets the highest of their outcomes.
TABLE = """
    request        none usage:read usage:read:own refresh:read refresh:run person staff superuser
    usage          none all        own            no           no          own    all   all
    refreshes      none no         no             ok           no          no     ok    ok
    run            none no         no             no           ok          no     ok    ok
    page           none none       none           none         none        own    all   all
    refreshes-page none none       none           none         none        no     ok    ok
    run-page       none none       none           none         none        no     ok    ok
    admin-index    none none       none           none         none        none   ok    ok
    admin          none none       none           none         none        none   no    ok
    metrics        none none       none           none         none        none   none  none
    health         ok   ok         ok             ok           ok          ok     ok    ok
    description    ok   ok         ok             ok           ok          ok     ok    ok
"""
HEADER, *ROWS = (line.split() for line in TABLE.strip().splitlines())
DECIDED = {request: dict(zip(HEADER[1:], outcomes, strict=True)) for request, *outcomes in ROWS}
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
class Request:
    """A request, with the row of the table that has its outcomes."""

    row: str
    path: str
    # A caller without rights sends only plain requests: the others differ only behind the login.
    is_plain: bool = False
    method: str = "get"
    headers: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Caller:
    """A client with its credentials, and the columns of the table that apply to it."""

    name: str
    client: Client
    columns: tuple[str, ...]
    # The columns on pages, which use the session alone, while the API uses the token.
    on_pages: tuple[str, ...]
    owns: frozenset[int] = frozenset()

    @property
    def is_nobody(self) -> bool:
        return {*self.columns, *self.on_pages} == {"none"}

    def expected(self, request: Request) -> str:
        """Return the highest outcome of its columns."""
        is_api = request.path.startswith("/api/")
        row = DECIDED[request.row]
        return max(
            (row[column] for column in (self.columns if is_api else self.on_pages)), key=RANKS.index
        )


def requests(run_id: int, cursor_of: Callable[[str], str]) -> Iterator[Request]:
    """Yield every request, with every way to name a subscription. `cursor_of` returns the cursor
    after the first page of a list about everybody."""
    for path in LISTS:
        first, *others = forms_of(path)
        for name in NAMES:
            for how in ("", "format=csv"):
                yield Request("usage", address(path, first, name, how), name in PLAIN)
                if path not in ("usage/records", "subscriptions"):
                    live = address(path, first, name, how, "live=true")
                    yield Request("usage", live, name in PLAIN)
        for name in FEW_NAMES:
            yield from (Request("usage", address(path, form, name)) for form in others)
            plain = address(path, first, name)
            yield Request("usage", plain, name in PLAIN, headers={"If-None-Match": "*"})
            yield Request("usage", plain, name in PLAIN, method="head")
        if path != "usage/records":
            page = address(path, first, "page_size=1")
            yield Request("usage", f"{page}&cursor={cursor_of(page)}")
    for row, paths in PAGES.items():
        for path in paths:
            yield Request(row, path.format(run=run_id), is_plain=True)
    yield Request("run", "/api/v1/refreshes/", is_plain=True, method="post")
    yield Request("run-page", "/refreshes/", is_plain=True, method="post")


def forms_of(path: str) -> list[str]:
    """Return the queries of a list without names of subscriptions; the first is the simplest."""
    if path == "usage/records":
        return [f"usage_type={kind}&day=2026-11-01" for kind in ("data", "voice")]
    return ["&".join(filter(None, (LISTS[path], form))) for form in FORMS[path]]


def address(path: str, *query: str) -> str:
    return f"/api/v1/{path}/?{'&'.join(filter(None, query))}"


def with_token(name: str, key: str, columns: tuple[str, ...], owns: frozenset[int]) -> Caller:
    """Return a machine client, which gets no page."""
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=key)
    return Caller(name, client, columns, ("none",), owns)


def with_session(name: str, user: User, columns: tuple[str, ...], owns: frozenset[int]) -> Caller:
    """Return the client of a person who has signed in."""
    client = APIClient(raise_request_exception=False)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return Caller(name, client, columns, columns, owns)


def scope_sets() -> list[tuple[Scope, ...]]:
    """Return every combination of scopes that a token may have."""
    found = [scopes for size in range(1, len(Scope) + 1) for scopes in combinations(Scope, size)]
    return [scopes for scopes in found if not {Scope.READ, Scope.READ_OWN} <= set(scopes)]
