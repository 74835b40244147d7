"""Services, as kpng models them: what matters for proxying, already normalised."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct, field

from .addresses import IPSet


class ServiceKey(NamedTuple):
    """The identity of a service; as text ``namespace/name``."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Protocol(IntEnum):
    """Layer-4 protocol; the values are those of the wire and of Go kpng's state files."""

    UNKNOWN = 0
    TCP = 1
    UDP = 2
    SCTP = 3


class PortMapping(Struct, frozen=True, gc=False, omit_defaults=True):
    """One port of a service.

    ``target_port`` (a number) and ``target_port_name`` are what the Service asks for; what an endpoint
    really listens on is in `Endpoint.ports`, matched by (name, protocol), see `Endpoint.port_for`.
    ``available`` is filled by localize, the same for all nodes: the families (`Family.bit`, or-ed) in which
    any endpoint of the *cluster* could serve this port. It tells "reject" (nobody) from "drop" (somebody,
    but not for this node's traffic policy).
    """

    port: int
    protocol: Protocol = Protocol.TCP
    name: str = ""
    node_port: int = 0
    target_port: int = 0
    target_port_name: str = ""
    available: int = 0


class Service(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One Service. ``session_affinity_seconds`` 0 means no affinity, else the ClientIP timeout.

    ``source_ranges`` are canonical CIDRs that may use the load-balancer IPs (empty: everybody).
    """

    namespace: str
    name: str
    type: str = "ClusterIP"
    cluster_ips: IPSet = IPSet()
    external_ips: IPSet = IPSet()
    load_balancer_ips: IPSet = IPSet()
    headless: bool = False
    ports: tuple[PortMapping, ...] = ()
    internal_traffic_local: bool = False
    external_traffic_local: bool = False
    session_affinity_seconds: int = 0
    source_ranges: tuple[str, ...] = ()
    health_check_node_port: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> ServiceKey:
        return ServiceKey(self.namespace, self.name)
