"""A brain that listens in the test's own loop, and what a client is told by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from kpng.model import ChangeSet
from kpng.server import ApiServer
from kpng.server.grpc import GrpcServer
from kpng.server.service import LIMITS
from kpng.store import Kind, Store
from kpng.testing import service

PATIENCE = 5
Server = TypeVar("Server", ApiServer, GrpcServer)


def a_store(*names: str, complete: bool = True) -> Store:
    """One with these services, which have no endpoints."""
    store = Store()
    with store.transaction() as transaction:
        if complete:
            transaction.mark_synced(*Kind)
        for name in names:
            transaction.set_service(service(f"demo/{name}"))
    return store


@asynccontextmanager
async def listening(server: Server, address: str) -> AsyncIterator[Server]:
    await server.listen(address)
    try:
        yield server
    finally:
        await server.close()


def serving(store: Store, address: str, **limits: float) -> AbstractAsyncContextManager[ApiServer]:
    return listening(ApiServer(store, limits=replace(LIMITS, **limits)), address)  # type: ignore[arg-type]


async def told(changes: AsyncIterator[ChangeSet]) -> ChangeSet:
    return await asyncio.wait_for(anext(changes), PATIENCE)
