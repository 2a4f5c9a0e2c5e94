"""The client address of a request, for the limits, the lockout and the log.

Each proxy appends the address that it sees to X-Forwarded-For. So the last DJANGO_PROXIES entries
come from our proxies. A client can forge the entries before them.
"""

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest

# A client of a Unix socket is on this machine.
THIS_MACHINE = IPv4Address("127.0.0.1")
# A household or a server usually has a whole /64 network.
IPV6_PREFIX = 64
# Some proxies write the port, and brackets around an IPv6 address.
WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]*)?|([0-9.]+):[0-9]*")

Address = IPv4Address | IPv6Address


def client_address(request: HttpRequest) -> str:
    """Return the IP address that the outermost of our proxies saw, without port and brackets.

    Without a valid address in its entry, return the address of the connection; 127.0.0.1 for a
    Unix socket.
    """
    return str(_client(request))


def client_network(request: HttpRequest) -> str:
    """Return the key by which limits count: an IPv4 address, or the first address of a /64."""
    address = _client(request)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, IPV6_PREFIX), strict=False).network_address)
    return str(address)


def _client(request: HttpRequest) -> Address:
    entry = ""
    if settings.DJANGO_PROXIES:
        entries = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        entry = entries[-settings.DJANGO_PROXIES :][0]
    return _parsed(entry) or _parsed(request.META.get("REMOTE_ADDR", "")) or THIS_MACHINE


def _parsed(text: str) -> Address | None:
    text = text.strip()
    if found := WITH_PORT.fullmatch(text):
        text = found[1] or found[2] or ""
    try:
        # The name of a network card may follow a % sign.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
