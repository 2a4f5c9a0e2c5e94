"""The TypeScript client of @hey-api/openapi-ts, used against a server.

The client of openapi-typescript is an example of docs/api.md, which test_api_doc.py runs.
"""

import shutil
from pathlib import Path

from tests.processes import ROOT
from tests.usage.api.clients.conftest import SCHEME, Running
from tests.usage.api.clients.node import HERE, run_program
from tests.usage.api.clients.typescript import prepare, run_compiled, type_check


def test_hey_api_has_the_types_of_the_responses(running: Running, tmp_path: Path) -> None:
    prepare(tmp_path)
    for file in (HERE / "hey_api.mts", HERE / "hey_api.config.mjs", ROOT / "docs" / "openapi.yaml"):
        shutil.copy(file, tmp_path)
    run_program("openapi-ts", "--file", "hey_api.config.mjs", at=tmp_path)
    type_check(tmp_path)
    environment = {"URL_OF_SERVER": running.url, "KEY": running.key, "SCHEME": SCHEME}
    printed = run_compiled("hey_api.mjs", tmp_path, **environment)
    assert printed.splitlines() == [
        "160.1 0.05 1000.5",
        "3 lines of CSV",
        "invalid price_limit",
        "queued",
    ]
