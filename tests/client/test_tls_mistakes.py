"""Every way in which two ends can disagree about TLS has a clear reason in the log of at least one of them."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import pytest

from kpng.client import link, watch_local
from kpng.lab.certificates import CertificateAuthority, KeyPair
from kpng.lab.netns import run
from kpng.server import ApiServer
from kpng.store import Kind, Store
from kpng.wire.tls import client_context, server_context

HERE = "DNS:localhost,IP:127.0.0.1"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(link, "LAST_RETRY_SECONDS", 0.02)


class Certificates(NamedTuple):
    ours: CertificateAuthority
    others: CertificateAuthority
    good: KeyPair
    misnamed: KeyPair
    expired: KeyPair
    stranger: KeyPair

    def server(self, pair: KeyPair) -> ssl.SSLContext | None:
        return server_context(pair.key, pair.certificate, self.ours.certificate)

    def client(self, pair: KeyPair, authority: CertificateAuthority | None = None) -> ssl.SSLContext | None:
        return client_context(pair.key, pair.certificate, (authority or self.ours).certificate)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    ours_at, others_at = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("others")
    ours, others = CertificateAuthority(ours_at), CertificateAuthority(others_at, "another CA")
    return Certificates(
        ours,
        others,
        good=ours.issue("localhost", HERE),
        misnamed=ours.issue("elsewhere", "DNS:elsewhere"),
        expired=expired_pair(ours_at),
        stranger=others.issue("stranger", HERE),
    )


def expired_pair(authority_at: Path) -> KeyPair:
    """A certificate of yesterday."""
    key, request, certificate = (str(authority_at / f"expired.{suffix}") for suffix in ("key", "csr", "crt"))
    extensions = authority_at / "extensions"
    extensions.write_text(f"subjectAltName={HERE}\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    run(["openssl", "req", *curve, "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=localhost"])
    signer = ["-CA", str(authority_at / "ca.crt"), "-CAkey", str(authority_at / "ca.key"), "-CAcreateserial"]
    sign = ["-days", "-1", "-extfile", str(extensions), "-in", request, "-out", certificate]
    run(["openssl", "x509", "-req", *signer, *sign])
    return KeyPair(key, certificate)


Ends = Callable[[Certificates], tuple[ssl.SSLContext | None, ssl.SSLContext | None]]
"""Makes the server's and the client's context."""

MISTAKES: dict[str, tuple[Ends, str, str]] = {
    "the client trusts another CA": (
        lambda c: (c.server(c.good), c.client(c.good, c.others)),
        "handshake failed: connection closed by the peer",
        "the peer's certificate is not accepted: self-signed certificate in certificate chain",
    ),
    "the client is of another CA": (
        lambda c: (c.server(c.good), c.client(c.stranger)),
        "handshake failed: the peer's certificate is not accepted: unable to get local issuer certificate",
        "connection closed by the peer; it may not accept our certificate",
    ),
    "the client has no certificate": (
        lambda c: (c.server(c.good), client_context(None, None, c.ours.certificate)),
        "handshake failed: peer did not return a certificate",
        "connection closed by the peer; it may not accept our certificate",
    ),
    "the server's certificate has expired": (
        lambda c: (c.server(c.expired), c.client(c.good)),
        "handshake failed: connection closed by the peer",
        "the peer's certificate is not accepted: certificate has expired",
    ),
    "the client's certificate has expired": (
        lambda c: (c.server(c.good), c.client(c.expired)),
        "handshake failed: the peer's certificate is not accepted: certificate has expired",
        "connection closed by the peer; it may not accept our certificate",
    ),
    "the server has another name": (
        lambda c: (c.server(c.misnamed), c.client(c.good)),
        "handshake failed: connection closed by the peer",
        "the peer's certificate is not accepted: IP address mismatch, certificate is not valid for '127.0.0.1'.",
    ),
    "only the server speaks TLS": (
        lambda c: (c.server(c.good), None),
        "handshake failed: the peer does not speak TLS",
        "connection closed by the peer; it may expect TLS",
    ),
    "only the client speaks TLS": (
        lambda c: (None, c.client(c.good)),
        "connection closed: the peer speaks TLS (PROTOCOL_ERROR)",
        "the peer does not speak TLS",
    ),
}


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == logger and record.levelno >= logging.WARNING
    ]


async def first_change_set(address: str, tls: ssl.SSLContext | None) -> None:
    async with aclosing(watch_local(address, "node-a", tls)) as changes:
        await anext(changes)


def api_server() -> ApiServer:
    store = Store()
    with store.transaction() as transaction:
        transaction.mark_synced(*Kind)
    return ApiServer(store)


@pytest.mark.parametrize("name", MISTAKES)
async def test_both_ends_say_once_why(
    name: str, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    ends, at_the_server, at_the_client = MISTAKES[name]
    server_tls, client_tls = ends(certificates)
    server = api_server()
    address = await server.listen("tcp://127.0.0.1:0", server_tls)
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first_change_set(address, client_tls), 1)
    finally:
        await server.close()
    assert lines(caplog, "kpng.client.link") == [f"cannot connect to {address}, will keep trying: {at_the_client}"]
    complaints = lines(caplog, "kpng.server._complaints")
    assert all(complaint.startswith("127.0.0.1:") for complaint in complaints)
    told = {complaint.partition(": ")[2] for complaint in complaints}
    assert len(told) == len(complaints)
    # a client that turns away closes or resets the connection, as the kernel has it
    assert at_the_server in told or at_the_server.endswith("closed by the peer")


@pytest.mark.parametrize("tls", [True, False])
async def test_ends_that_agree_have_nothing_to_say(
    tls: bool, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    server = api_server()
    ours, theirs = (certificates.server(certificates.good), certificates.client(certificates.good))
    address = await server.listen("tcp://127.0.0.1:0", ours if tls else None)
    try:
        await asyncio.wait_for(first_change_set(address, theirs if tls else None), 5)
    finally:
        await server.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_with_tls_over_a_unix_socket_the_name_is_localhost(
    certificates: Certificates, tmp_path: Path
) -> None:
    server = api_server()
    address = await server.listen(f"unix://{tmp_path}/s", certificates.server(certificates.good))
    try:
        await asyncio.wait_for(first_change_set(address, certificates.client(certificates.good)), 5)
    finally:
        await server.close()


async def test_a_client_that_waits_for_its_server_gets_in_when_the_certificate_is_mended(
    certificates: Certificates,
) -> None:
    """The server comes back with a certificate that has not expired; nobody restarts the client."""
    bad, good = api_server(), api_server()
    address = await bad.listen("tcp://127.0.0.1:0", certificates.server(certificates.expired))
    waiting = asyncio.create_task(first_change_set(address, certificates.client(certificates.good)))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await bad.close()
    await good.listen(address, certificates.server(certificates.good))
    try:
        await asyncio.wait_for(waiting, 5)
    finally:
        await good.close()
