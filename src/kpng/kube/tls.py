"""TLS towards the API server: whom to trust and who we are, from files that are replaced while we run."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from kpng.model import UserError

Identity = tuple[bytes, bytes]
"""A certificate (with its chain) and its key, PEM."""


class TLSFiles(Struct, frozen=True):
    """What a kubeconfig or a pod gives: files, or what would be in them. Without authority, the system's count."""

    authority: str = ""
    authority_data: bytes = b""
    certificate: str = ""
    certificate_data: bytes = b""
    key: str = ""
    key_data: bytes = b""
    verify: bool = True


class TLSContexts:
    """The context for a new connection; another one whenever a file or the identity is another."""

    def __init__(self, files: TLSFiles) -> None:
        self._files = files
        self._made: tuple[object, ssl.SSLContext] | None = None

    def get(self, identity: Identity | None = None) -> ssl.SSLContext:
        """``identity`` replaces that of the files. Raises `UserError` where they cannot be used."""
        state = (identity, *map(_state, (self._files.authority, self._files.certificate, self._files.key)))
        if self._made is None or self._made[0] != state:
            self._made = (state, self._make(identity))
        return self._made[1]

    def _make(self, identity: Identity | None) -> ssl.SSLContext:
        try:
            return self._context(identity)
        except (ssl.SSLError, ValueError) as error:
            raise UserError(f"certificates cannot be used: {error}") from error
        except OSError as error:
            raise UserError(f"{error.filename or 'certificates'}: {error.strerror}") from error

    def _context(self, identity: Identity | None) -> ssl.SSLContext:
        files = self._files
        authority = files.authority_data or _content(files.authority)
        context = ssl.create_default_context(cadata=authority.decode("ascii", "ignore") if authority else None)
        if not files.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate = files.certificate_data or _content(files.certificate)
        key = files.key_data or _content(files.key)
        if identity or certificate:
            _identify(context, *(identity or (certificate, key or certificate)))
        return context


def _identify(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL takes a certificate from files only; these are in memory, so that no key is ever on a disk."""
    with _memory_file(certificate) as certificate_path, _memory_file(key) as key_path:
        context.load_cert_chain(certificate_path, key_path, password=_no_password)


def _no_password() -> str:
    raise ValueError("the key has a passphrase")


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("kpng", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _content(path: str) -> bytes:
    if not path:
        return b""
    with open(path, "rb") as file:
        return file.read()


def _state(path: str) -> object:
    """Which file this is: certificates are replaced whole, by a rename or a link."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
