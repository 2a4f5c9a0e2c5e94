"""Security settings of production: start, https, headers of responses, and failed logins."""

import secrets
import subprocess

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client

from tests.connections import run_sql
from tests.processes import broker_url, database_url, run

PRODUCTION = {
    "DJANGO_DEBUG": "0",
    "DJANGO_PLAIN_HTTP": "0",
    "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
    "DJANGO_ALLOWED_HOSTS": "usage.example",
}

ASK = """
import sys
import django
django.setup()
from django.test import Client
for path in sys.argv[1:]:
    response = Client(headers={"X-Forwarded-Proto": "https"}).get(path, SERVER_NAME="usage.example",
        secure=path.startswith("https:"))
    print(response.status_code, response.headers.get("Location", ""))
    print(response.headers.get("Strict-Transport-Security", "no HSTS"))
    for cookie in response.cookies.values():
        print(cookie.key, bool(cookie["secure"]), cookie["samesite"])
"""


def check_deployment(broker: redis.Redis, **environment: str) -> "subprocess.CompletedProcess[str]":
    return run(
        *("manage.py", "check", "--deploy", "--fail-level", "DEBUG"),
        DATABASE_URL=database_url(),
        REDIS_URL=broker_url(broker),
        **environment,
    )


@pytest.mark.django_db
def test_the_check_for_deployment_finds_nothing(broker: redis.Redis) -> None:
    checked = check_deployment(broker, **PRODUCTION)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout == "System check identified no issues (1 silenced).\n"


@pytest.mark.django_db
def test_the_check_for_deployment_names_a_proxy_that_is_not_counted(broker: redis.Redis) -> None:
    broker.set("usage:uncounted-proxy", "10.0.0.7")
    checked = check_deployment(broker, **PRODUCTION)
    assert checked.returncode != 0
    assert "(usage.W004) Requests with X-Forwarded-For came from 10.0.0.7" in checked.stderr


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJANGO_SECRET_KEY", "development-only-never-in-production"),
        ("DJANGO_SECRET_KEY", "short"),
        ("DJANGO_ALLOWED_HOSTS", "*"),
        ("DJANGO_ALLOWED_HOSTS", "usage.example,*"),
    ],
)
def test_the_web_process_refuses_to_start(name: str, value: str) -> None:
    started = run("-c", "import config.wsgi", **{**PRODUCTION, name: value})
    assert started.returncode != 0
    assert name in started.stderr.splitlines()[-1]


@pytest.mark.django_db
def test_http_is_sent_on_to_https_and_cookies_go_by_https_alone() -> None:
    done = run(
        *("-c", ASK, "http://usage.example/login/", "https://usage.example/login/"),
        DATABASE_URL=database_url(),
        DJANGO_SETTINGS_MODULE="config.settings",
        **PRODUCTION,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "308 https://usage.example/login/",
        "no HSTS",
        "200 ",
        "max-age=31536000; includeSubDomains",
        "csrftoken True Lax",
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/login/", "/api/v1/subscriptions/", "/nothing/"])
def test_every_answer_says_what_a_browser_may_do_with_it(path: str) -> None:
    response = Client().get(path)
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in response["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == ("'self'" if path == "/login/" else "'none'")
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in response["Content-Security-Policy"]
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"


def sign_in(password: str, username: str = "anna", address: str = "192.0.2.1") -> int:
    return (
        Client()
        .post("/login/", {"username": username, "password": password}, REMOTE_ADDR=address)
        .status_code
    )


@pytest.mark.django_db
def test_an_address_that_guesses_passwords_is_stopped() -> None:
    User.objects.create_user("anna", password="right")
    assert [sign_in("wrong") for _ in range(9)] == [200] * 9
    assert sign_in("right") == 302, "a success deletes the own failures"
    assert [sign_in("wrong") for _ in range(11)] == [200] * 9 + [429] * 2
    assert sign_in("right") == 429
    assert sign_in("right", address="192.0.2.2") == 302
    run_sql("UPDATE axes_accessattempt SET attempt_time = now() - INTERVAL '11 minutes'")
    assert sign_in("right") == 302


@pytest.mark.django_db
def test_a_success_with_the_own_account_deletes_no_failures_of_another() -> None:
    User.objects.create_user("anna", password="right")
    User.objects.create_user("mallory", password="own")
    assert [sign_in("wrong") for _ in range(9)] == [200] * 9
    assert sign_in("own", "mallory") == 302
    assert sign_in("wrong") == 429
    assert sign_in("right") == 429


@pytest.mark.django_db
def test_a_success_deletes_no_failures_of_another_address() -> None:
    User.objects.create_user("anna", password="right")
    assert [sign_in("wrong") for _ in range(9)] == [200] * 9
    assert sign_in("right", address="192.0.2.2") == 302
    assert sign_in("wrong") == 429


@pytest.mark.django_db
def test_an_address_that_guesses_for_many_users_is_stopped() -> None:
    User.objects.create_user("mallory", password="own")
    assert [sign_in("wrong", f"user{number}") for number in range(9)] == [200] * 9
    assert sign_in("own", "mallory") == 302
    assert sign_in("wrong", "user9") == 429


@pytest.mark.django_db
def test_the_login_of_the_admin_counts_too() -> None:
    User.objects.create_superuser("anna", password="right")
    for number in range(10):
        page = ["/login/", "/admin/login/"][number % 2]
        Client().post(page, {"username": "anna", "password": "wrong"}, REMOTE_ADDR="192.0.2.1")
    assert sign_in("right") == 429


@pytest.mark.django_db
def test_tries_during_the_wait_neither_lengthen_it_nor_fill_the_database() -> None:
    User.objects.create_user("anna", password="right")
    for _ in range(10):
        sign_in("wrong")
    attempt = "SELECT attempt_time, failures_since_start, length(post_data) FROM axes_accessattempt"
    before = run_sql(attempt)
    assert [sign_in(password) for password in ["wrong", "right"]] == [429, 429]
    assert run_sql(attempt) == before


@pytest.mark.django_db
def test_a_refused_login_names_the_wait() -> None:
    for _ in range(10):
        sign_in("wrong")
    response = Client().post(
        "/login/", {"username": "anna", "password": "x"}, REMOTE_ADDR="192.0.2.1"
    )
    assert response["Retry-After"] == "600"
    assert "in 10 minutes" in response.content.decode()
