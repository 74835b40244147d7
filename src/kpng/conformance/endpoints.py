"""Endpoints as the data writes them: HOST:PORT, [HOST]:PORT."""

from __future__ import annotations

from ipaddress import ip_address


def endpoint_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoint_of(text: str) -> tuple[str, int]:
    """(address, port). Raises `ValueError` where the text is not as `endpoint_text` writes it."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or int(port) > 65535 or text != endpoint_text(canonical(host), int(port)):
        raise ValueError(f"{text!r} is not an endpoint HOST:PORT")
    return host, int(port)


def canonical(address: str) -> str:
    """The address itself. Raises `ValueError` where it is written otherwise: addresses are compared as texts."""
    if str(ip_address(address)) != address:
        raise ValueError(f"{address} is written {ip_address(address)}")
    return address
