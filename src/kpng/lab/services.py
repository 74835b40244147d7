"""The lab's services as plain data; `manifests` turns them into Kubernetes objects, `scenarios` send to them."""

from __future__ import annotations

from dataclasses import dataclass

from .topology import Addresses, Topology

HTTP, ECHO_TCP, ECHO_UDP = 8080, 7007, 7008  # what every pod listens on
SERVICE_PORTS = {"http": 80, "echo-tcp": 7, "echo-udp": 8}
OUTSIDE_CIDRS = ("203.0.113.0/24", "2001:db8:113::/64")


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service. ``node_port`` is the one of port http; the two echo ports take the numbers after it."""

    name: str
    app: str
    cluster_ips: Addresses
    node_port: int = 0
    load_balancer: Addresses | None = None
    external_ips: Addresses | None = None
    external_policy: str = "Cluster"
    internal_policy: str = "Cluster"
    affinity: bool = False
    zone_hints: bool = False

    @property
    def outside_ips(self) -> tuple[str, ...]:
        """The addresses for clients outside that are nobody's own: routed to a node."""
        return tuple(ip for ips in (self.load_balancer, self.external_ips) if ips for ip in ips.both)

    @property
    def health_check_port(self) -> int:
        """Given here, since one that the API server picked could be the node port of a service to come."""
        needed = self.load_balancer and self.external_policy == "Local"
        return self.node_port + len(SERVICE_PORTS) if needed else 0

    @property
    def type(self) -> str:
        if self.load_balancer:
            return "LoadBalancer"
        return "NodePort" if self.node_port else "ClusterIP"


def _cluster_ips(host: int) -> Addresses:
    return Addresses(f"10.96.0.{host}", f"fd00:10:96::{host}")


def _outside(host: int) -> Addresses:
    return Addresses(f"203.0.113.{host}", f"2001:db8:113::{host}")


WEB = ServicePlan(
    "web", "web", _cluster_ips(80), node_port=30080, load_balancer=_outside(80), external_ips=_outside(180)
)
WEB_LOCAL = ServicePlan(
    "web-local",
    "web",
    _cluster_ips(81),
    node_port=30180,
    load_balancer=_outside(81),
    external_policy="Local",
)
WEB_NEAR = ServicePlan("web-near", "web", _cluster_ips(82), internal_policy="Local")
STICKY = ServicePlan("sticky", "web", _cluster_ips(83), node_port=30280, affinity=True)
SHOP = ServicePlan("shop", "shop", _cluster_ips(84))
ZONAL = ServicePlan("zonal", "web", _cluster_ips(86), zone_hints=True)
EMPTY = ServicePlan("empty", "", _cluster_ips(85), node_port=30380)

SERVICES = (WEB, WEB_LOCAL, WEB_NEAR, STICKY, SHOP, EMPTY, ZONAL)


def announcements(topology: Topology) -> dict[str, str]:
    """Address for clients outside -> the node that traffic for it is routed to, as if it had announced it.

    A service with ``externalTrafficPolicy: Local`` must be announced by a node with an endpoint.
    """
    return {
        address: (topology.busy_node if service.external_policy == "Local" else topology.idle_node).name
        for service in SERVICES
        for address in service.outside_ips
    }
