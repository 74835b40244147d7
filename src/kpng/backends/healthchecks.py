"""`to-healthchecks`: answers load balancers' health checks of Services, and forwards nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from kpng.model import ChangeSet

from .contract import Backend
from .node_ports import node_port_addresses, node_port_addresses_option


class HealthChecksBackend(Backend):
    """Says that node ports are offered here, by somebody else: the runtime then answers for them."""

    help = """Answer the health checks of Services (healthCheckNodePort), beside a proxy that does not.

    200 where this node has ready endpoints of the Service, else 503. Beside to-nft it is not needed: there they are
    answered anyway.

    \b
    kpng local --api brain:12090 to-healthchecks
    kpng kube to-local to-healthchecks --nodeport-addresses primary
    """
    options: ClassVar = (
        node_port_addresses_option(
            "Answer only at local addresses in these CIDRs, or only at this Node's own addresses as the cluster "
            "knows them (primary). [default: all local addresses]"
        ),
    )

    def __init__(self, nodeport_addresses: Sequence[str] = ()) -> None:
        self._addresses = node_port_addresses(nodeport_addresses)

    @property
    def node_port_addresses(self) -> Sequence[str]:
        return self._addresses

    async def apply(self, changes: ChangeSet) -> None:
        """Nothing to program."""
