"""The proxy of docker-compose.yml, with the configuration in that file."""

import os
import re
import ssl
import sys
import time
from pathlib import Path

import pytest
import yaml

from bin import spawn
from bin.broker import ADDRESS, free_port
from tests.processes import ROOT

PROGRAM = Path(sys.executable).with_name("caddy")


def configuration(web: str, port: int, place: Path, staff: str | None) -> str:
    """Return the Caddyfile of docker-compose.yml with other addresses and ports, files in `place`,
    and a certificate of Caddy's own authority. `staff` is USAGE_STAFF_NETWORKS."""
    text = str(
        yaml.safe_load((ROOT / "docker-compose.yml").read_text())["configs"]["proxy"]["content"]
    )
    for pattern, new in (
        (r"\$\{USAGE_HOST:-localhost\}", f"localhost:{port}"),
        (r"\$\{USAGE_STAFF_NETWORKS:-(\S+)\}", staff or r"\1"),
        (r"\bweb:8000\b", web.removeprefix("http://")),
        (r"\bhttp_port \d+", f"http_port {free_port()}"),
        (r"\bhttps_port \d+", f"https_port {port}"),
        (
            r"\badmin off",
            f"admin off\nskip_install_trust\ndefault_bind {ADDRESS}\nstorage file_system {place}",
        ),
    ):
        text, times = re.subn(pattern, new, text)
        assert times == 1, f"docker-compose.yml no longer has {pattern} once"
    return text


class Proxy:
    """Caddy in front of a web server, with its files in `place`; the caller ends `process`."""

    def __init__(self, place: Path, web: str, *, staff: str | None = None) -> None:
        if not PROGRAM.exists():
            pytest.skip(f"there is no {PROGRAM}: pip install -r requirements-dev.txt")
        files = place / "proxy"
        files.mkdir()
        self.port = free_port()
        (files / "Caddyfile").write_text(configuration(web, self.port, files, staff))
        self._log = place / "proxy.log"
        with self._log.open("ab") as output:
            self.process = spawn.spawn(
                [
                    str(PROGRAM),
                    "run",
                    "--config",
                    str(files / "Caddyfile"),
                    "--adapter",
                    "caddyfile",
                ],
                directory=files,
                output=output,
                environment={"PATH": os.defpath, "HOME": str(files)},
            )
        authority = files / "pki" / "authorities" / "local" / "root.crt"
        deadline = time.monotonic() + 30
        while not authority.exists():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        self.trust = ssl.create_default_context(cafile=str(authority))
