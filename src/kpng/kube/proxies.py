"""Which HTTP proxy the environment names for a URL, as Go programs read it (golang.org/x/net/http/httpproxy).

Not left to aiohttp (``trust_env``): along with the proxies that reads passwords from ~/.netrc and sends them to the
server; and it knows no CIDRs in $NO_PROXY.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from urllib.parse import SplitResult, urlsplit

log = logging.getLogger(__name__)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORTS = {"http": "80", "https": "443"}
_EXCEPTION = re.compile(r"(\[[^]]*]|[^:]+)(?::([^:]*))?")
"""A host, perhaps with a port; an IPv6 address without brackets is neither."""


def proxy_for(url: str) -> str | None:
    """The proxy, with its user and password where it has them; None: go there directly."""
    try:
        parts = urlsplit(url)
    except ValueError:  # the request will tell
        return None
    name = f"{parts.scheme.upper()}_PROXY"
    proxy = _variable(name)
    if not proxy or not _is_proxied(parts):
        return None
    if "://" not in proxy:
        return f"http://{proxy}"
    if not proxy.lower().startswith("http://"):
        log.warning("%s: only http:// proxies are supported; connecting without it", name)
        return None
    return proxy


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower(), "")


def _is_proxied(parts: SplitResult) -> bool:
    """The machine itself is never asked for through a proxy."""
    host = parts.hostname or ""
    address, port = _address(host), _port(parts)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    exceptions = [each.strip().lower() for each in _variable("NO_PROXY").split(",")]
    return not any(_covers(each, host, address, port) for each in exceptions)


def _port(parts: SplitResult) -> str:
    try:
        return str(parts.port or _PORTS.get(parts.scheme, ""))
    except ValueError:
        return ""


def _covers(exception: str, host: str, address: _Address | None, port: str) -> bool:
    """Whether one of those in $NO_PROXY is for this host. ``address``: the host's, where it is one."""
    if exception == "*":
        return True
    if "/" in exception:
        return address is not None and _contains(exception, address)
    match = _EXCEPTION.fullmatch(exception)
    name, only = (match[1].strip("[]"), match[2]) if match else (exception, "")
    if not name or (only and only != port):
        return False
    if address is not None:
        return address == _address(name)
    return _is_domain_of(name, host)


def _is_domain_of(name: str, host: str) -> bool:
    """``a.b`` covers itself and what is below, ``.a.b`` and ``*.a.b`` only what is below."""
    suffix = name.removeprefix("*") if name.startswith("*.") else name
    return host.endswith(suffix) if suffix.startswith(".") else host == suffix or host.endswith(f".{suffix}")


def _contains(network: str, address: _Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _address(host: str) -> _Address | None:
    """IPv4 in IPv6's clothes is IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
