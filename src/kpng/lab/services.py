"""The lab's services as plain data; `manifests` turns them into Kubernetes objects, `scenarios` send to them."""

from __future__ import annotations

from dataclasses import dataclass

from .topology import Addresses, Topology

HTTP, ECHO_TCP, ECHO_UDP = 8080, 7007, 7008  # what every pod listens on
SERVICE_PORTS = {"http": 80, "echo-tcp": 7, "echo-udp": 8}
LOAD_BALANCER_CIDRS = ("203.0.113.0/24", "2001:db8:113::/64")


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service. ``node_port`` is the one of port http; the two echo ports take the numbers after it."""

    name: str
    app: str
    cluster_ips: Addresses
    node_port: int = 0
    load_balancer: Addresses | None = None
    external_policy: str = "Cluster"
    internal_policy: str = "Cluster"
    affinity: bool = False

    @property
    def type(self) -> str:
        if self.load_balancer:
            return "LoadBalancer"
        return "NodePort" if self.node_port else "ClusterIP"


def _cluster_ips(host: int) -> Addresses:
    return Addresses(f"10.96.0.{host}", f"fd00:10:96::{host}")


def _load_balancer(host: int) -> Addresses:
    return Addresses(f"203.0.113.{host}", f"2001:db8:113::{host}")


WEB = ServicePlan("web", "web", _cluster_ips(80), node_port=30080, load_balancer=_load_balancer(80))
WEB_LOCAL = ServicePlan(
    "web-local",
    "web",
    _cluster_ips(81),
    node_port=30180,
    load_balancer=_load_balancer(81),
    external_policy="Local",
)
WEB_NEAR = ServicePlan("web-near", "web", _cluster_ips(82), internal_policy="Local")
STICKY = ServicePlan("sticky", "web", _cluster_ips(83), node_port=30280, affinity=True)
SHOP = ServicePlan("shop", "shop", _cluster_ips(84))
EMPTY = ServicePlan("empty", "", _cluster_ips(85), node_port=30380)

SERVICES = (WEB, WEB_LOCAL, WEB_NEAR, STICKY, SHOP, EMPTY)


def announcements(topology: Topology) -> dict[str, str]:
    """Load-balancer address -> the node that traffic for it is routed to, as a load balancer would announce it.

    A service with ``externalTrafficPolicy: Local`` must be announced by a node with an endpoint.
    """
    return {
        address: (topology.busy_node if service.external_policy == "Local" else topology.idle_node).name
        for service in SERVICES
        if service.load_balancer
        for address in service.load_balancer.both
    }
