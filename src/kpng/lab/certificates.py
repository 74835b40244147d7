"""Certificates for demos and tests, made with the ``openssl`` program: a CA of your own and what it signs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .netns import run

DAYS = "30"


@dataclass(frozen=True)
class KeyPair:
    """File names of a private key and its certificate (PEM)."""

    key: str
    certificate: str


class CertificateAuthority:
    """Makes its own key and certificate in a directory, then those of others."""

    def __init__(self, directory: Path, name: str = "kpng lab CA") -> None:
        self._directory = directory
        self._pair = self._paths("ca")
        _request(self._pair, name, "-x509", "-days", DAYS, "-addext", "keyUsage=critical,keyCertSign")

    @property
    def certificate(self) -> str:
        """File name of the CA's certificate."""
        return self._pair.certificate

    def issue(self, name: str, *alternative_names: str) -> KeyPair:
        """A key pair with the common name ``name``, valid for names such as "DNS:localhost" and "IP:127.0.0.1"."""
        pair = self._paths(name.replace("/", "_"))
        extensions = ["-addext", f"subjectAltName={','.join(alternative_names)}"] if alternative_names else []
        signed = ["-x509", "-days", DAYS, "-CA", self._pair.certificate, "-CAkey", self._pair.key]
        _request(pair, name, *signed, "-addext", "basicConstraints=critical,CA:FALSE", *extensions)
        return pair

    def _paths(self, stem: str) -> KeyPair:
        return KeyPair(str(self._directory / f"{stem}.key"), str(self._directory / f"{stem}.crt"))


def _request(pair: KeyPair, name: str, *options: str) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", pair.key]
    run(["openssl", "req", *key, "-out", pair.certificate, "-subj", f"/CN={name}", *options])
