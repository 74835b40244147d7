"""Mutual TLS end to end, and a node's certificate as the right to its own state."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from kpng.client import link, watch_global, watch_local
from kpng.client.grpc import GrpcConnection
from kpng.lab.certificates import CertificateAuthority, KeyPair
from kpng.model import Service, ServiceKey
from kpng.server import ApiServer
from kpng.store import Kind, Store
from kpng.wire.grpc import GrpcError, GrpcStatus, frame
from kpng.wire.ops import LOCAL_WATCH, SYNC
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.tls import client_context, server_context

PATIENCE = 5


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pairs(authority: CertificateAuthority) -> dict[str, KeyPair]:
    names = {"brain": ["DNS:localhost"], "n1": [], "system:node:n1": []}
    return {name: authority.issue(name, *alternatives) for name, alternatives in names.items()}


@pytest.fixture
def store() -> Store:
    filled = Store()
    with filled.transaction() as transaction:
        transaction.replace(*Kind)
        transaction.set_service(Service(namespace="demo", name="web"))
    return filled


@asynccontextmanager
async def serving(
    store: Store, authority: CertificateAuthority, pair: KeyPair, *, own_node_only: bool
) -> AsyncIterator[str]:
    server = ApiServer(store, own_node_only=own_node_only)
    tls = server_context(pair.key, pair.certificate, authority.certificate)
    bound = await server.listen("tcp://127.0.0.1:0", tls)
    try:
        yield f"localhost:{bound.rpartition(':')[2]}"
    finally:
        await server.close()


def client_tls(authority: CertificateAuthority, pair: KeyPair) -> ssl.SSLContext:
    context = client_context(pair.key, pair.certificate, authority.certificate)
    assert context is not None
    return context


@pytest.mark.parametrize("certificate", ["n1", "system:node:n1"])
async def test_a_node_watches_its_own_state(
    store: Store, authority: CertificateAuthority, pairs: dict[str, KeyPair], certificate: str
) -> None:
    tls = client_tls(authority, pairs[certificate])
    async with (
        serving(store, authority, pairs["brain"], own_node_only=True) as address,
        aclosing(watch_local(address, "n1", tls)) as local,
        aclosing(watch_global(address, tls)) as whole,
    ):
        assert set((await asyncio.wait_for(anext(local), PATIENCE)).changes) == {ServiceKey("demo", "web")}
        assert set((await asyncio.wait_for(anext(whole), PATIENCE)).services) == {ServiceKey("demo", "web")}


@pytest.mark.parametrize("node", ["n2", "", "system:node:n1"])
async def test_a_node_does_not_watch_anothers_state(
    store: Store, authority: CertificateAuthority, pairs: dict[str, KeyPair], node: str
) -> None:
    async with serving(store, authority, pairs["brain"], own_node_only=True) as address:
        connection = await GrpcConnection.connect(address, client_tls(authority, pairs["n1"]))
        call = await connection.open(LOCAL_WATCH)
        await call.send(localv1.WatchReq(NodeName=node).SerializeToString())
        with pytest.raises(GrpcError, match="'n1' is not that of node") as caught:
            await asyncio.wait_for(call.receive(), PATIENCE)
        assert caught.value.status is GrpcStatus.PERMISSION_DENIED
        await connection.close()


async def test_every_round_is_checked(
    store: Store, authority: CertificateAuthority, pairs: dict[str, KeyPair]
) -> None:
    async with serving(store, authority, pairs["brain"], own_node_only=True) as address:
        connection = await GrpcConnection.connect(address, client_tls(authority, pairs["n1"]))
        call = await connection.open(LOCAL_WATCH)
        await call.send(localv1.WatchReq(NodeName="n1").SerializeToString())
        messages: list[bytes] = []
        while SYNC not in map(frame, messages):
            messages += await asyncio.wait_for(call.receive(), PATIENCE)
        await call.send(localv1.WatchReq(NodeName="n2").SerializeToString())
        with pytest.raises(GrpcError, match="PERMISSION_DENIED"):
            await asyncio.wait_for(call.receive(), PATIENCE)
        await connection.close()


async def test_without_the_restriction_any_certificate_watches_any_node(
    store: Store, authority: CertificateAuthority, pairs: dict[str, KeyPair]
) -> None:
    tls = client_tls(authority, pairs["n1"])
    async with (
        serving(store, authority, pairs["brain"], own_node_only=False) as address,
        aclosing(watch_local(address, "n2", tls)) as changes,
    ):
        assert (await asyncio.wait_for(anext(changes), PATIENCE)).full


async def test_a_restricted_server_without_tls_lets_nobody_watch(store: Store, tmp_path: Path) -> None:
    server = ApiServer(store, own_node_only=True)
    address = await server.listen(f"unix://{tmp_path}/kpng.sock")
    connection = await GrpcConnection.connect(address)
    call = await connection.open(LOCAL_WATCH)
    await call.send(localv1.WatchReq(NodeName="n1").SerializeToString())
    with pytest.raises(GrpcError, match="PERMISSION_DENIED"):
        await asyncio.wait_for(call.receive(), PATIENCE)
    await connection.close()
    await server.close()


async def test_a_client_that_is_refused_says_why(
    store: Store, authority: CertificateAuthority, pairs: dict[str, KeyPair], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, link.__name__)
    tls = client_tls(authority, pairs["n1"])
    async with (
        serving(store, authority, pairs["brain"], own_node_only=True) as address,
        aclosing(watch_local(address, "n2", tls)) as changes,
    ):
        coming = asyncio.ensure_future(anext(changes))
        async with asyncio.timeout(PATIENCE):
            while not caplog.records:  # noqa: ASYNC110 -- what is waited for has no event
                await asyncio.sleep(0.01)
        await asyncio.wait({coming}, timeout=0.3)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    messages = [record.getMessage() for record in caplog.records if record.name == link.__name__]
    assert len(messages) == 1
    assert "PERMISSION_DENIED: the certificate of 'n1' is not that of node 'n2'" in messages[0]
