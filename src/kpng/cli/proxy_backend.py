"""The nft backend as a proxy on its own: reports its health, and takes over from kube-proxy."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import click
from msgspec.structs import replace

from kpng.backends.nft import NftBackend
from kpng.health import PRIMARY, HealthCheckServers, HealthState
from kpng.model import ChangeSet, IPSet, LocalNode, family_of, parse_address
from kpng.proxyconfig import KubeProxyConfiguration

from .health import ReportingBackend
from .leftovers import take_over_from_kube_proxy


class ProxyBackend(ReportingBackend):
    """``bind_address``: the Node's, in its family, if it is specific."""

    def __init__(
        self, state: HealthState, servers: HealthCheckServers, bind_address: str = "", **options: Any
    ) -> None:
        super().__init__(NftBackend(**options), state, servers)
        self._bind_address = bind_address
        self._taking_over: asyncio.Task[None] | None = None

    async def apply(self, changes: ChangeSet) -> None:
        """The first time that is done, what kube-proxy has left goes; that may take long, and no change waits."""
        await super().apply(changes)
        if self._taking_over is None:
            self._taking_over = asyncio.create_task(asyncio.to_thread(take_over_from_kube_proxy))

    async def stop(self) -> None:
        if self._taking_over is not None:
            self._taking_over.cancel()
        await super().stop()

    def adjusted(self, node: LocalNode) -> LocalNode:
        """A specific bind address is the node's, in its family (K2)."""
        return replace(node, addresses=with_bind_address(node.addresses, self._bind_address))


def with_bind_address(addresses: IPSet, bind_address: str) -> IPSet:
    """``addresses`` with the bind address in place of that of its family; an unspecified one says nothing."""
    if not bind_address or ipaddress.ip_address(bind_address).is_unspecified:
        return addresses
    bound = parse_address(bind_address)
    others = (address for address in addresses.all() if family_of(address) is not family_of(bound))
    return IPSet.of([bound, *others])


def backend_options(config: KubeProxyConfiguration) -> dict[str, Any]:
    """The options of ``to-nft`` that a configuration stands for."""
    command = click.Command("to-nft", params=[*NftBackend.options])
    with command.make_context("to-nft", backend_words(config)) as context:
        return context.params


def backend_words(config: KubeProxyConfiguration) -> list[str]:
    """A configuration as the command line of ``to-nft``."""
    values = {
        "--detect-local-mode": config.detect_local_mode,
        "--cluster-cidr": config.cluster_cidr,
        "--pod-bridge-interface": config.detect_local.bridge_interface,
        "--pod-interface-name-prefix": config.detect_local.interface_name_prefix,
        "--nodeport-addresses": ",".join(node_port_addresses(config)),
    }
    words = [f"{name}={value}" for name, value in values.items() if value]
    return words + ["--masquerade-all"] * config.nftables.masquerade_all


def node_port_addresses(config: KubeProxyConfiguration) -> tuple[str, ...]:
    """The default of the nftables mode is the Node's own addresses (H2)."""
    return tuple(config.node_port_addresses) or (PRIMARY,)
