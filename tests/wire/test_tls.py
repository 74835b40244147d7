"""TLS contexts from flags: every mistake is named, none is swallowed."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kpng.lab.certificates import CertificateAuthority, KeyPair
from kpng.lab.netns import run
from kpng.model import UserError
from kpng.wire.tls import client_context, server_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority: CertificateAuthority) -> KeyPair:
    return authority.issue("localhost", "DNS:localhost")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A TLS handshake in memory; raises what either side finds wrong."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def test_without_flags_there_is_no_tls() -> None:
    assert server_context(None, None, None) is None
    assert server_context("", "", "") is None
    assert client_context(None, None, None) is None


def test_both_sides_know_each_other(authority: CertificateAuthority, pair: KeyPair) -> None:
    server = server_context(pair.key, pair.certificate, authority.certificate)
    client = client_context(pair.key, pair.certificate, authority.certificate)
    assert server is not None
    assert client is not None
    assert server.minimum_version is client.minimum_version is ssl.TLSVersion.TLSv1_2
    ours, theirs = shake_hands(client, server, "localhost")
    assert ours.selected_alpn_protocol() == theirs.selected_alpn_protocol() == "h2"
    assert (("commonName", "localhost"),) in (theirs.getpeercert() or {})["subject"]


def test_a_client_without_a_certificate_is_refused(authority: CertificateAuthority, pair: KeyPair) -> None:
    server = server_context(pair.key, pair.certificate, authority.certificate)
    client = client_context(None, None, authority.certificate)
    assert server is not None
    assert client is not None
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(client, server, "localhost")


def test_a_client_of_another_ca_is_refused(authority: CertificateAuthority, pair: KeyPair, tmp_path: Path) -> None:
    stranger = CertificateAuthority(tmp_path, "stranger").issue("node")
    server = server_context(pair.key, pair.certificate, authority.certificate)
    client = client_context(stranger.key, stranger.certificate, authority.certificate)
    assert server is not None
    assert client is not None
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "localhost")


def test_the_client_checks_the_servers_name(authority: CertificateAuthority, pair: KeyPair) -> None:
    server = server_context(pair.key, pair.certificate, authority.certificate)
    client = client_context(pair.key, pair.certificate, authority.certificate)
    assert server is not None
    assert client is not None
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client, server, "elsewhere")


def test_without_a_ca_the_client_trusts_the_systems(pair: KeyPair, authority: CertificateAuthority) -> None:
    server = server_context(pair.key, pair.certificate, authority.certificate)
    client = client_context(pair.key, pair.certificate, None)
    assert server is not None
    assert client is not None
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "localhost")


@pytest.mark.parametrize(
    "given", [(True, False, True), (False, True, True), (False, False, True), (True, True, False)]
)
def test_a_server_needs_all_three_files(
    authority: CertificateAuthority, pair: KeyPair, given: tuple[bool, bool, bool]
) -> None:
    files = (pair.key, pair.certificate, authority.certificate)
    with pytest.raises(UserError, match=r"--listen-tls-.* must"):
        server_context(*(file if wanted else None for file, wanted in zip(files, given, strict=True)))


def test_a_client_needs_key_and_certificate_together(pair: KeyPair) -> None:
    with pytest.raises(UserError, match="--api-client-tls-key and --api-client-tls-crt"):
        client_context(pair.key, None, None)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_missing_file_is_named(authority: CertificateAuthority, pair: KeyPair, place: int) -> None:
    files = [pair.key, pair.certificate, authority.certificate]
    files[place] = "/nonexistent/file.pem"
    flag = ("--listen-tls-key", "--listen-tls-crt", "--listen-tls-ca")[place]
    with pytest.raises(UserError, match=f"{flag} /nonexistent/file.pem: No such file or directory"):
        server_context(*files)


def test_a_key_that_does_not_fit(authority: CertificateAuthority, pair: KeyPair) -> None:
    other = authority.issue("other")
    with pytest.raises(UserError, match="the key does not belong to the certificate"):
        server_context(other.key, pair.certificate, authority.certificate)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_file_that_is_something_else(
    authority: CertificateAuthority, pair: KeyPair, place: int, tmp_path: Path
) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("not PEM\n")
    files = [pair.key, pair.certificate, authority.certificate]
    files[place] = str(rubbish)
    with pytest.raises(UserError, match=f"{rubbish}.*: not in PEM format"):
        server_context(*files)


def test_an_encrypted_key_is_refused_without_asking(
    authority: CertificateAuthority, pair: KeyPair, tmp_path: Path
) -> None:
    encrypted = str(tmp_path / "encrypted.key")
    run(["openssl", "ec", "-in", pair.key, "-aes128", "-passout", "pass:secret", "-out", encrypted])
    with pytest.raises(UserError, match="the key is encrypted"):
        server_context(encrypted, pair.certificate, authority.certificate)
