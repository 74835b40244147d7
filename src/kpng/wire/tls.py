"""TLS contexts from the Go kpng's flags. HTTP/2 (ALPN "h2"), TLS 1.2 at least (RFC 9113, section 9.2)."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from kpng.model import UserError

_SERVER_FLAGS = "--listen-tls"
_CLIENT_FLAGS = "--api-client-tls"


def server_context(key: str | None, certificate: str | None, ca: str | None) -> ssl.SSLContext | None:
    """From --listen-tls-key, -crt and -ca (file names); None if none of them is given.

    Clients must present a certificate of the CA. Raises `UserError` that names flag, file and reason.
    """
    if not (key or certificate or ca):
        return None
    if not (key and certificate):
        raise UserError(f"{_SERVER_FLAGS}-key and {_SERVER_FLAGS}-crt must both be given")
    if not ca:
        raise UserError(
            f"{_SERVER_FLAGS}-ca must be given: it is what the clients' certificates are verified against"
        )
    context = _prepare(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.verify_mode = ssl.CERT_REQUIRED
    _load_pair(context, key, certificate, _SERVER_FLAGS)
    _load_ca(context, ca, _SERVER_FLAGS)
    return context


def client_context(key: str | None, certificate: str | None, ca: str | None) -> ssl.SSLContext | None:
    """From --api-client-tls-key, -crt and -ca (file names); None if none of them is given.

    The server's certificate and name are verified, against the system's CAs if none is given. Raises `UserError`.
    """
    if not (key or certificate or ca):
        return None
    if bool(key) != bool(certificate):
        raise UserError(f"{_CLIENT_FLAGS}-key and {_CLIENT_FLAGS}-crt must be given together")
    context = _prepare(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if key and certificate:
        _load_pair(context, key, certificate, _CLIENT_FLAGS)
    if ca:
        _load_ca(context, ca, _CLIENT_FLAGS)
    else:
        context.load_default_certs()
    return context


def handshake_fault(error: ssl.SSLError) -> str:
    """Why a handshake failed, for people: the class's own text holds numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not accepted: {error.verify_message}"
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
        return "the peer does not speak TLS"
    return (error.reason or str(error)).lower().replace("_", " ")


def _prepare(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2"])
    return context


def _load_pair(context: ssl.SSLContext, key: str, certificate: str, flags: str) -> None:
    _check_readable(key, f"{flags}-key")
    _check_readable(certificate, f"{flags}-crt")
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password(f"{flags}-key {key}"))
    except ssl.SSLError as error:
        raise UserError(f"{flags}-key {key} and {flags}-crt {certificate}: {_reason(error)}") from error


def _load_ca(context: ssl.SSLContext, ca: str, flags: str) -> None:
    _check_readable(ca, f"{flags}-ca")
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise UserError(f"{flags}-ca {ca}: {_reason(error)}") from error


def _check_readable(path: str, flag: str) -> None:
    """The ssl module does not say which of its files it could not read."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}") from error


def _refuse_password(subject: str) -> Callable[[], str]:
    """Without this, OpenSSL would ask on the terminal."""

    def refuse() -> str:
        raise UserError(f"{subject}: the key is encrypted, which is not supported")

    return refuse


def _reason(error: ssl.SSLError) -> str:
    reason: str | None = error.reason  # None too, whatever the type stubs say
    if reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    if reason in (None, "NO_START_LINE", "NO_CERTIFICATE_OR_CRL_FOUND"):
        return "not in PEM format, or not what the flag is for"
    return str(reason).lower().replace("_", " ")
