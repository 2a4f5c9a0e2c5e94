"""The client address of a request, behind proxies and without."""

import logging

import pytest
from django.conf import LazySettings
from django.test import Client, RequestFactory, override_settings

from usage.addresses import client_address, client_network

PROXY = "10.0.0.7"


def address(forwarded: str, *, proxies: int = 1, peer: str = PROXY) -> str:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory(headers=headers).get("/", REMOTE_ADDR=peer)
    with override_settings(DJANGO_PROXIES=proxies):
        return client_address(request)


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:567", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:567", "192.0.2.1"),
        ("192.0.2.9, 192.0.2.1:80", "192.0.2.1"),
        ("nonsense,192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:567", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("2001:db8::1%eth0", "2001:db8::1"),
    ],
)
def test_an_address_is_read_without_port_and_brackets(forwarded: str, expected: str) -> None:
    assert address(forwarded) == expected


@pytest.mark.parametrize(
    "forwarded",
    [
        *("", ",", "unknown", "192.0.2.300", "192.0.2.1:x", "[2001:db8::1", "[]:80", ":80"),
        *("192.0.2.1, ", "192.0.2.1, nonsense", "1" * 8000, "::1]:80", "192.0.2.1\x00"),
        *("\uff11.2.3.4", "[v1.fe]", "2001:db8::1:99999", "192.0.2.1:-1", "%", "[%]"),
    ],
)
def test_text_that_is_no_address_is_replaced_by_the_address_of_the_proxy(forwarded: str) -> None:
    assert address(forwarded) == PROXY


def test_each_of_our_proxies_appends_an_address() -> None:
    forged = "192.0.2.66, 192.0.2.1, 10.0.0.8"
    assert address(forged, proxies=2) == "192.0.2.1"
    assert address("192.0.2.1", proxies=2) == "192.0.2.1"
    assert address(forged, proxies=0) == PROXY


def test_a_client_of_a_unix_socket_is_on_this_machine() -> None:
    assert address("", peer="") == "127.0.0.1"
    assert address("192.0.2.1", peer="") == "192.0.2.1"


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::", "2001:db8:1:3::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_limits_count_an_ipv6_client_by_its_network(peer: str, network: str) -> None:
    assert client_network(RequestFactory().get("/", REMOTE_ADDR=peer)) == network


@pytest.mark.django_db
@pytest.mark.parametrize("forwarded", ["192.0.2.1:567", "nonsense", "[2001:db8::1]:9", ""])
def test_a_wrong_password_is_no_failure_of_the_server(
    forwarded: str, settings: LazySettings
) -> None:
    settings.DJANGO_PROXIES = 1
    response = Client(headers={"X-Forwarded-For": forwarded}).post(
        "/login/", {"username": "anna", "password": "wrong"}
    )
    assert response.status_code == 200


@pytest.mark.django_db
def test_a_port_or_another_address_of_the_network_gives_no_new_tries(
    settings: LazySettings,
) -> None:
    settings.DJANGO_PROXIES = 1
    for forwarded in ["192.0.2.1:{}", "[2001:db8::{}]:443", "nonsense {}"]:
        statuses = [
            Client(headers={"X-Forwarded-For": forwarded.format(number)})
            .post("/login/", {"username": "anna", "password": "wrong"})
            .status_code
            for number in range(1, 11)
        ]
        assert statuses == [200] * 9 + [429], forwarded


def test_the_log_names_the_whole_address(
    settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DJANGO_PROXIES = 1
    with caplog.at_level(logging.INFO):
        Client(headers={"X-Forwarded-For": "[2001:db8::5]:1"}).get("/nothing/")
    assert [record.__dict__["address"] for record in caplog.records] == ["2001:db8::5"]
