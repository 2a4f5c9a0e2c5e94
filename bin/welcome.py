"""What bin/serve prints once everything answers: lines to copy that work as they stand."""

from pathlib import Path

from bin import answers
from bin.broker import ADDRESS

QUESTION = "SELECT * FROM usage_daily ORDER BY total_price DESC LIMIT 5"

TEXT = """
Usage answers at http://{host}:{port}/ as the operator `demo`
(password in {local}/demo_password, logs in {local}/log).

API token:  {token}

Who has spent 10 or more?
  curl -H 'Authorization: Token {token}' \\
    'http://{host}:{port}{path}'

The same data in SQL:
  {psql} \\
    -c '{question}'

How old are the totals? (every command: .venv/bin/python manage.py help)
  . '{local}/environment' && .venv/bin/python manage.py usage_status

Ctrl-C stops everything."""


def welcome(*, local: Path, port: int, token: str, psql: str) -> str:
    """The whole text; psql is the command that reaches the database."""
    return TEXT.format(
        host=ADDRESS,
        port=port,
        path=answers.QUESTION,
        local=local,
        token=token,
        psql=psql,
        question=QUESTION,
    )
