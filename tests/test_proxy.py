"""The proxy of docker-compose.yml in front of the web server: the paths of the public site."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bin import spawn
from bin.broker import ADDRESS
from tests.connections import wait_until
from tests.faults.installation import POLITELY
from tests.proxy import Proxy
from tests.usage.monitoring.scraping import TOKEN
from tests.web import serving

PUBLIC, STAFF = "127.0.0.2", "127.0.0.3"


@contextmanager
def site(place: Path, staff: str | None = None) -> Iterator[Proxy]:
    """Start the web server behind the proxy, with the settings of docker-compose.yml."""
    with serving(place, DJANGO_PLAIN_HTTP="0", DJANGO_PROXIES="1") as web:
        proxy = Proxy(place, f"http://{ADDRESS}:{web.port}", staff=staff)
        try:
            wait_until(lambda: responds(proxy), seconds=60, what="the proxy to respond")
            yield proxy
        finally:
            spawn.end(proxy.process, *POLITELY)


def responds(proxy: Proxy) -> bool:
    """Return whether the proxy has its certificate and reaches the web server."""
    try:
        return ask(proxy, "/health/live").status == 200
    except OSError:
        return False


def ask(
    proxy: Proxy, path: str, *, client: str = PUBLIC, **headers: str
) -> http.client.HTTPResponse:
    """Send a request from this client address and return the response."""
    connection = http.client.HTTPSConnection(
        "localhost", proxy.port, timeout=20, source_address=(client, 0), context=proxy.trust
    )
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


@pytest.fixture
def public(state: None, tmp_path: Path) -> Iterator[Proxy]:
    with site(tmp_path) as proxy:
        yield proxy


def test_browsers_are_sent_one_policy_for_https(public: Proxy) -> None:
    for path in ["/login/", "/api/v1/subscriptions/", "/nothing/"]:
        sent = ask(public, path).headers.get_all("Strict-Transport-Security")
        assert sent == ["max-age=31536000; includeSubDomains"], path


def test_admin_and_metrics_are_not_on_the_public_site(public: Proxy) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for path in [
        *("/admin/", "/admin", "/admin/login/", "/metrics", "/metrics/", "/ADMIN/"),
        *(
            "//metrics",
            "/%6Detrics",
            "/%61dmin/",
            "/admin/../admin/",
            "/x/../metrics",
            "/./metrics",
        ),
        *("/static/../metrics", "/metrics?x=1", "/admin%2F", "/metric%73", "/%2e/metrics"),
    ]:
        assert ask(public, path, **bearer).status == 404, path
    for name in ["SCRIPT_NAME", "PATH_INFO", "X-Original-URL", "X-Rewrite-URL"]:
        for closed in ["/metrics", "/admin/"]:
            assert ask(public, "/health/live", **bearer, **{name: closed}).status == 200
    assert ask(public, "/login/").status == 200


def test_networks_of_the_staff_reach_admin_and_metrics(state: None, tmp_path: Path) -> None:
    with site(tmp_path, staff=f"192.0.2.0/24 {STAFF}/32") as proxy:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(proxy, "/metrics", client=STAFF, **bearer).status == 200
        assert ask(proxy, "/admin/login/", client=STAFF).status == 200
        forged = {"X-Forwarded-For": STAFF}
        assert ask(proxy, "/metrics", **bearer, **forged).status == 404
