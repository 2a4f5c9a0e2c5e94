import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bin.broker import ADDRESS, Valkey, free_port


@pytest.fixture
def broker(place: Path) -> Iterator[Valkey]:
    """A running Valkey, ended with the test."""
    made = Valkey(place, place / "valkey.log", "a-password")
    made.start()
    yield made
    made.stop()


def test_broker_answers_only_with_its_password(broker: Valkey) -> None:
    with redis.Redis.from_url(broker.url) as client:
        assert client.ping()
    with (
        redis.Redis(host=ADDRESS, port=broker.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_password_is_not_in_the_command_line(broker: Valkey) -> None:
    assert broker.process is not None
    assert broker.password not in " ".join(broker.command)
    if Path("/proc").is_dir():
        shown = Path(f"/proc/{broker.process.pid}/cmdline").read_text()
        assert broker.password not in shown


def test_broker_refuses_writes_instead_of_forgetting_messages(broker: Valkey) -> None:
    with redis.Redis.from_url(broker.url, decode_responses=True) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("maxmemory") == {"maxmemory": str(128 * 1024**2)}
        assert client.config_get("save") == {"save": ""}


def test_broker_keeps_its_address_after_a_kill(broker: Valkey) -> None:
    before = broker.url
    assert broker.process is not None
    os.kill(broker.process.pid, signal.SIGKILL)
    broker.process.wait()
    assert not broker.alive()
    broker.start()
    assert broker.url == before
    with redis.Redis.from_url(before) as client:
        assert client.ping()


def test_taken_port_is_stepped_over() -> None:
    with socket.socket() as taken:
        taken.bind((ADDRESS, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port


def test_port_taken_for_every_address_is_stepped_over() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - that is the point
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port
