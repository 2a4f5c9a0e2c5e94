"""The web process: its statements and its connections to the database."""

from math import prod

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model

from bin.server_settings import LASTING
from config import gunicorn
from tests.factories import make_key
from tests.processes import database_url, run
from tests.usage.api.api_requests import LISTS

# Connections besides the web server's: the worker's two processes, beat, a command, an analyst or
# two, and those that PostgreSQL reserves for superusers.
OTHERS = 20

ASK = """
import io, sys
import psycopg2.extensions
from config.wsgi import application
from django.db import connection

statements = []

class Counted(psycopg2.extensions.cursor):
    def execute(self, query, parameters=None):
        statements.append(query)
        return super().execute(query, parameters)

def ask():
    environ = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": f"/api/v1/{sys.argv[1]}/", "QUERY_STRING": sys.argv[2],
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_AUTHORIZATION": sys.argv[3],
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
    }
    response = application(environ, lambda status, headers: print(status))
    response.close()

ask()
connection.connection.cursor_factory = Counted
ask()
ask()
print(len(statements))
"""


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_a_request_on_a_kept_connection_takes_two_statements(
    state: None, path: str, query: str
) -> None:
    """Django's health checks of the connection are counted too."""
    user = get_user_model().objects.create_user("client")
    done = run("-c", ASK, path, query, f"Token {make_key(user)}", DATABASE_URL=database_url())
    assert done.stdout.split("\n") == ["200 OK", "200 OK", "200 OK", "4", ""]


def test_every_thread_finds_a_connection_on_the_largest_machine() -> None:
    most = prod((gunicorn.MOST_WORKERS, gunicorn.threads))
    assert most + OTHERS <= int(LASTING["max_connections"])
    assert 2 <= gunicorn.workers <= gunicorn.MOST_WORKERS


def test_a_download_never_takes_the_last_thread() -> None:
    assert gunicorn.threads > settings.DOWNLOADS_PER_PROCESS
