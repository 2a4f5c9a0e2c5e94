"""The text that bin/serve prints when all is ready: commands to copy and paste."""

from pathlib import Path

from bin import readiness
from bin.broker import ADDRESS

QUERY = "SELECT * FROM usage_daily ORDER BY total_price DESC LIMIT 5"

TEXT = """
Usage answers at http://{host}:{port}/ as the operator `demo`
(password in {local}/demo_password, logs in {local}/log).

API token:  {token}

Who has spent 10 or more?
  curl -H 'Authorization: Token {token}' \\
    'http://{host}:{port}{path}'

The same data in SQL:
  {psql} \\
    -c '{query}'

How old are the totals? (every command: .venv/bin/python manage.py help)
  . '{local}/environment' && .venv/bin/python manage.py usage_status

Ctrl-C stops everything."""


def welcome(*, local: Path, port: int, token: str, psql: str) -> str:
    """Return the whole text; `psql` is the command that connects to the database."""
    return TEXT.format(
        host=ADDRESS,
        port=port,
        path=readiness.QUERY_PATH,
        local=local,
        token=token,
        psql=psql,
        query=QUERY,
    )
