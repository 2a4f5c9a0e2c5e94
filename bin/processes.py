"""The command lines of the application's processes.

docker-compose.yml repeats them, and a test compares the two.
"""

from collections.abc import Sequence


def web(address: str) -> list[str]:
    """Return the command of Gunicorn with config/gunicorn.py."""
    return [
        *("gunicorn", "config.wsgi", "--config", "python:config.gunicorn"),
        *("--name", "usage", "--bind", address),
    ]


def worker(name: str = "usage@%h") -> list[str]:
    """Return the command of a Celery worker with two processes: a long refresh needs one of them,
    and the other runs what is due meanwhile."""
    return [
        *("celery", "-A", "worker.app", "worker", "--hostname", name),
        *("--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
        "--without-heartbeat",
    ]


def beat(schedule: str) -> list[str]:
    """Return the command of Celery beat; the schedule file has the last time of each task."""
    return [
        *("celery", "-A", "worker.app", "beat", "--schedule", schedule),
        *("--loglevel", "INFO"),
    ]


def migrate() -> list[str]:
    """Return the command that migrates the database."""
    return ["python", "manage.py", "migrate", "--noinput"]


def under(python: str, command: Sequence[str]) -> list[str]:
    """Return the command as a module of this Python. Scripts in .venv have an absolute path, and
    the tree may have moved since."""
    if command[0] == "python":
        return [python, *command[1:]]
    return [python, "-m", *command]
