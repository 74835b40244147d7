"""``IP:port``, as the bind addresses are written."""

from __future__ import annotations

import ipaddress


def split_host_port(text: str) -> tuple[str, str]:
    """(host, port); the port is "" where there is none. An IPv6 address may be bare or in brackets."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port


def join_host_port(host: str, port: int | str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_ipv6(text: str) -> bool:
    return is_address(text) and ":" in text
