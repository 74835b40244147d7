"""Where a gRPC server listens: "host:port", "tcp://host:port" or "unix:///path"."""

from __future__ import annotations

from dataclasses import dataclass

from kpng.model import UserError


@dataclass(frozen=True)
class TcpAddress:
    """A host may be a name, an address without brackets, or empty: any of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


def bracketed(host: str) -> str:
    """A host as it stands before ":port"."""
    return f"[{host}]" if ":" in host else host


def parse_address(text: str) -> TcpAddress | UnixAddress:
    """Raises `UserError` on anything else."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if scheme == "unix" and rest:
        return UnixAddress(rest)
    if scheme in ("tcp", "tcp4", "tcp6"):
        return _parse_tcp(text, rest)
    raise _invalid(text)


def _parse_tcp(text: str, rest: str) -> TcpAddress:
    host, separator, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _invalid(text)
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise _invalid(text)
    return TcpAddress(host, int(port))


def _invalid(text: str) -> UserError:
    return UserError(f'address "{text}" is neither host:port, tcp://host:port nor unix:///path')
