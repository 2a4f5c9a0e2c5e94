"""HTTP by hand: requests of any bytes, which no client library would send."""

import socket
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

SECONDS = 30


@dataclass(frozen=True)
class Answer:
    """What came back; `status` is 0 where the server closed the connection without an answer."""

    status: int
    content_type: str = ""
    body: bytes = b""


def ask(url: str, request: bytes) -> Answer:
    """Send these bytes and nothing after them."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection:
        try:
            connection.sendall(request)
            # So that it doesn't wait for the rest of a request that has no end.
            connection.shutdown(socket.SHUT_WR)
            method = "HEAD" if request.startswith(b"HEAD ") else "GET"
            with HTTPResponse(connection, method=method) as response:
                response.begin()
                kind = response.getheader("Content-Type") or ""
                return Answer(response.status, kind, response.read())
        except (HTTPException, ConnectionError):
            return Answer(0)


def written(method: str, target: str, headers: list[tuple[str, str]]) -> bytes:
    """A request; each character of its target and headers is one byte."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
