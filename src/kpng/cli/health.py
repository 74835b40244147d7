"""A backend's health, and that of the Services behind it, told to whoever asks (load balancers, kubelets)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import click
from msgspec.structs import replace

from kpng.backends import Backend, run_backend
from kpng.backends.conntrack import ConntrackReconciler
from kpng.health import (
    HealthCheckServers,
    HealthState,
    listen_addresses,
    proxy_health_handler,
    serve,
)
from kpng.health.addresses import Addresses
from kpng.health.server import Handler
from kpng.host.address_watch import AddressWatch
from kpng.host.addresses import interface_addresses
from kpng.model import ChangeSet, IPSet, LocalNode
from kpng.proxyconfig.addresses import is_address, split_host_port

from .running import UserMistake

Parts = list[Coroutine[Any, Any, None]]


def _address(_ctx: click.Context, option: click.Parameter, text: str) -> str:
    host, port = split_host_port(text)
    if text and not (is_address(host) and port.isdecimal() and int(port) < 1 << 16):
        raise UserMistake(f"{option.opts[0]}: {text!r} is not ADDRESS:PORT")
    return text


HEALTHZ_OPTION = click.Option(
    ["--healthz-bind-address", "healthz"],
    default="",
    callback=_address,
    metavar="ADDRESS:PORT",
    help="Where to serve /healthz and /livez, as kube-proxy does on 0.0.0.0:10256. [default: nowhere]",
)


class ReportingBackend(Backend):
    """A backend that tells ``state`` of what is queued and done, and ``servers``, if any, of what has been made
    real."""

    def __init__(self, backend: Backend, state: HealthState, servers: HealthCheckServers | None) -> None:
        self._backend = backend
        self._state = state
        self._servers = servers

    async def start(self) -> None:
        await self._backend.start()

    async def apply(self, changes: ChangeSet) -> None:
        self._state.queued()
        if changes.node is not None:
            self._state.node(changes.node)
            changes = replace(changes, node=self.adjusted(changes.node))
        await self._backend.apply(changes)
        self._state.synced()
        if self._servers is not None:
            self._servers.apply(changes)

    def adjusted(self, node: LocalNode) -> LocalNode:
        """The Node as the backend is to see it."""
        return node

    async def stop(self) -> None:
        await self._backend.stop()

    def conntrack(self) -> ConntrackReconciler | None:
        return self._backend.conntrack()


def health_check_servers(state: HealthState, node_port_addresses: Sequence[str]) -> HealthCheckServers:
    """Servers of healthCheckNodePorts, at the addresses where node ports are offered."""

    def addresses(node: IPSet) -> Addresses:
        return listen_addresses(node_port_addresses, node, {found.address for found in interface_addresses()})

    return HealthCheckServers(state, addresses)


def serving_health(
    state: HealthState, servers: HealthCheckServers | None, healthz: str, *, hard_fail: bool
) -> Parts:
    """What is to run beside the backend. ``healthz``: where to serve that; "" for nowhere."""
    parts: Parts = [servers.run(), _follow_addresses(servers)] if servers is not None else []
    if healthz:
        parts.append(serve_at("health of the proxy", proxy_health_handler(state), healthz, hard_fail=hard_fail))
    return parts


def serve_at(what: str, handler: Handler, address: str, *, hard_fail: bool) -> Coroutine[Any, Any, None]:
    host, port = split_host_port(address)
    return serve(what, handler, host, int(port), hard_fail=hard_fail)


async def _follow_addresses(servers: HealthCheckServers) -> None:
    watch = AddressWatch()
    servers.look_again()
    try:
        async for _ in watch.changes():
            servers.look_again()
    finally:
        watch.close()


async def run_with_health(backend: Backend, changes: AsyncIterator[ChangeSet], healthz: str) -> None:
    """`run_backend`, and beside it /healthz, and the servers of healthCheckNodePorts where the backend offers node
    ports."""
    state, addresses = HealthState(), backend.node_port_addresses
    servers = health_check_servers(state, addresses) if addresses is not None else None
    async with asyncio.TaskGroup() as group:
        parts = serving_health(state, servers, healthz, hard_fail=True)
        beside = [group.create_task(part) for part in parts]
        await run_backend(ReportingBackend(backend, state, servers), changes)
        for task in beside:
            task.cancel()
