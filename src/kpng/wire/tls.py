"""TLS contexts from the Go kpng's flags."""

from __future__ import annotations

import ssl


def server_context(key: str | None, certificate: str | None, ca: str | None) -> ssl.SSLContext | None:
    """From --listen-tls-key, -crt and -ca; None if none of them is given. Raises `UserError`."""
    raise NotImplementedError


def client_context(key: str | None, certificate: str | None, ca: str | None) -> ssl.SSLContext | None:
    """From --api-client-tls-key, -crt and -ca; None if none of them is given. Raises `UserError`."""
    raise NotImplementedError
