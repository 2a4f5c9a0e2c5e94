"""Load from wrk: at the highest rate of the server, or at a chosen rate."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import Server

# At a chosen rate each connection starts after a random delay, then sends at a fixed interval.
SCRIPT = """
local paths = {{{paths}}}
local headers = {{{headers}}}
local threads = 0
local formatted, place = {{}}, 0

function setup(thread)
    threads = threads + 1
    thread:set("number", threads)
end

function init(arguments)
    math.randomseed(number)
    for position, path in ipairs(paths) do
        formatted[position] = wrk.format("GET", path, headers)
    end
    place = math.random(#paths)
end

function request()
    place = place % #formatted + 1
    return formatted[place]
end

if {wait} > 0 then
    local beginning = {connections}
    function delay()
        beginning = beginning - 1
        return beginning >= 0 and math.random(0, {wait}) or {wait}
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\\nmeasured {{"a_second": %f, "p50": %f, "p99": %f, "refused": %d, "broken": %d}}\\n',
        summary.requests / summary.duration * 1e6,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout
    ))
end
"""
THREADS = 2


class WrkIsMissingError(Exception):
    """wrk is not installed, and the load needs it. Install it (Debian: apt install wrk)."""

    def __str__(self) -> str:
        return self.__doc__ or ""


@dataclass(frozen=True)
class LoadResult:
    """Responses a second, p50 and p99 in milliseconds, and the number of broken connections."""

    a_second: float
    p50: float
    p99: float
    broken: int


def load(
    server: Server,
    paths: Sequence[str],
    *,
    seconds: float,
    connections: int,
    headers: dict[str, str] | None = None,
    a_second: float | None = None,
) -> LoadResult:
    """Request the paths in turn over persistent connections, at the highest rate.

    With `a_second` the rate is about that: each connection waits between its requests. Raises
    RuntimeError if a response is an error, or if there is none.
    """
    script = SCRIPT.format(
        paths=", ".join(map(json.dumps, paths)),
        headers=", ".join(
            f"[{json.dumps(name)}] = {json.dumps(value)}"
            for name, value in (server.headers | (headers or {})).items()
        ),
        connections=connections // THREADS,
        wait=round(1000 * connections / a_second) if a_second else 0,
    )
    wrk = find_wrk()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "load.lua"
        file.write_text(script)
        command = [
            *(wrk, "--threads", str(THREADS), "--connections", str(connections)),
            *("--duration", f"{seconds:.0f}s", "--timeout", "60s", "--script", str(file)),
            server.address,
        ]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = json.loads(output.rpartition("measured ")[2])
    if refused := figures.pop("refused"):
        raise RuntimeError(f"{refused} responses to paths like {paths[0]} were errors.")
    if not figures["a_second"]:
        raise RuntimeError(f"No response to paths like {paths[0]} arrived in {seconds} s.")
    return LoadResult(**figures)


def find_wrk() -> str:
    """Return the path of the program. Raises WrkIsMissingError."""
    found = shutil.which("wrk")
    if found is None:
        raise WrkIsMissingError
    return found
