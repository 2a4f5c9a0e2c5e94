"""The command lines of the application's processes.

bin/serve runs them, docker-compose.yml repeats them, and a test compares the two.
"""

from collections.abc import Sequence


def web(address: str, name: str = "usage") -> list[str]:
    """Gunicorn, as config/gunicorn.py sets it."""
    return [
        *("gunicorn", "config.wsgi", "--config", "python:config.gunicorn"),
        *("--name", name, "--bind", address),
    ]


def worker(name: str = "usage@%h") -> list[str]:
    """One Celery worker of two processes: a refresh, and beside it whatever else is due."""
    return [
        *("celery", "-A", "worker.app", "worker", "--hostname", name),
        *("--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
        "--without-heartbeat",
    ]


def beat(schedule: str) -> list[str]:
    """Celery's clock; it keeps when it last sent each task in the schedule file."""
    return [
        *("celery", "-A", "worker.app", "beat", "--schedule", schedule),
        *("--loglevel", "INFO"),
    ]


def migrate() -> list[str]:
    """Brings the database to the newest migration."""
    return ["python", "manage.py", "migrate", "--noinput"]


def under(python: str, command: Sequence[str]) -> list[str]:
    """The command as a module of this Python: it works wherever the environment was moved."""
    if command[0] == "python":
        return [python, *command[1:]]
    return [python, "-m", *command]
