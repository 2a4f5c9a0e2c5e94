"""HTTP requests of any bytes, which a client library would refuse to send."""

import socket
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

SECONDS = 30


@dataclass(frozen=True)
class Response:
    """A response; `status` is 0 if the server closed the connection without one."""

    status: int
    content_type: str = ""
    body: bytes = b""


def ask(url: str, request: bytes) -> Response:
    """Send these bytes, close the sending side, and return the response."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection:
        try:
            connection.sendall(request)
            # Otherwise the server would wait for the rest of an incomplete request.
            connection.shutdown(socket.SHUT_WR)
            method = "HEAD" if request.startswith(b"HEAD ") else "GET"
            with HTTPResponse(connection, method=method) as response:
                response.begin()
                kind = response.getheader("Content-Type") or ""
                return Response(response.status, kind, response.read())
        except (HTTPException, ConnectionError):
            return Response(0)


def written(method: str, target: str, headers: list[tuple[str, str]]) -> bytes:
    """Return the bytes of a request; each character of target and headers becomes one byte."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
