"""Scenarios of packet flows: what a node is given, what is sent, what must come of it.

The form of ``data/packet_flows.json``, whose ``meta.legend`` explains the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from .endpoints import canonical, endpoint_of
from .files import load

Object = dict[str, Any]
"""A Kubernetes object; what is in it is for the file source to judge."""

Text = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Device = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,15}$")]
Verdict = Literal["dnat", "reject", "drop", "none"]


class Expectation(Struct, frozen=True):
    """``dnat_to`` holds every endpoint that may be hit, as HOST:PORT. ``masquerade`` None: it depends on the
    endpoint, see ``masquerade_per_endpoint``."""

    verdict: Verdict
    dnat_to: tuple[str, ...] = ()
    masquerade: bool | None = None
    masquerade_per_endpoint: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for endpoint in (*self.dnat_to, *self.masquerade_per_endpoint):
            endpoint_of(endpoint)
        if (self.verdict == "dnat") != bool(self.dnat_to):
            raise ValueError("verdict dnat and dnat_to go together")

    def masquerades(self, endpoint: str) -> bool:
        """Whether traffic to this endpoint gets the node's address."""
        return bool(self.masquerade_per_endpoint.get(endpoint, self.masquerade))


class Precondition(Struct, frozen=True):
    """``client_last_sent_to``: session affinity ties the client to this endpoint, HOST:PORT."""

    client_last_sent_to: str

    def __post_init__(self) -> None:
        endpoint_of(self.client_last_sent_to)


class Flow(Struct, frozen=True):
    """One connection attempt. ``in_iface``: the device it comes in by, where that matters."""

    name: Text
    src_ip: Text
    dst_ip: Text
    dst_port: Port
    proto: Literal["tcp", "udp", "sctp"]
    expect: Expectation
    expect_iptables: Expectation | None = None
    in_iface: Device | None = None
    precondition: Precondition | None = None

    def __post_init__(self) -> None:
        if ip_address(canonical(self.src_ip)).version != ip_address(canonical(self.dst_ip)).version:
            raise ValueError(f"{self.src_ip} and {self.dst_ip} are not of one family")


class DetectLocal(Struct, frozen=True):
    """How traffic of pods is told: ``value`` is a CIDR or a name of interfaces."""

    mode: Literal["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", "none"]
    value: str = ""


class NodeFacts(Struct, frozen=True):
    """The node that the scenario plays on, and how its proxy is set up."""

    name: Text
    primary_ip: Text
    local_ips: tuple[str, ...]
    detect_local: DetectLocal
    masquerade_all: bool = False
    nodeport_addresses: tuple[str, ...] = ()
    zone: str | None = None
    service_cidrs: tuple[str, ...] = ()
    feature_gates: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for address in (self.primary_ip, *self.local_ips):
            canonical(address)

    @property
    def external_ips(self) -> bool:
        """Whether spec.externalIPs of Services count (KEP-5707)."""
        return self.feature_gates.get("AllowServiceExternalIPs", True)

    def owns(self, address: str) -> bool:
        """Whether a process of this node may have this address."""
        return address in self.local_ips or ip_address(address).is_loopback


class Scenario(Struct, frozen=True):
    """What is sent (``flows``) to a node that was given these objects. ``mode``: whose behaviour it is."""

    name: Text
    mode: Literal["nftables", "iptables", "any"]
    node: NodeFacts
    services: tuple[Object, ...]
    endpointslices: tuple[Object, ...]
    flows: tuple[Flow, ...]

    @property
    def devices(self) -> set[str]:
        """The devices that its flows come in by, where they say."""
        return {flow.in_iface for flow in self.flows if flow.in_iface}


class _File(Struct):
    scenarios: tuple[Scenario, ...]


def load_scenarios(path: str | None = None) -> tuple[Scenario, ...]:
    """Read a file of scenarios, by default the one in the package. Raises `kpng.UserError`."""
    return load(path, "packet_flows.json", _File).scenarios


def for_backend(scenarios: Sequence[Scenario], backend: str) -> list[Scenario]:
    """The scenarios that this backend must pass: those of its own mode, and nftables', which all must; but where
    iptables has expectations of its own, those hold for it."""
    if backend == "iptables":
        return [replace(scenario, flows=tuple(map(_as_iptables, scenario.flows))) for scenario in scenarios]
    return [scenario for scenario in scenarios if scenario.mode != "iptables"]


def _as_iptables(flow: Flow) -> Flow:
    return replace(flow, expect=flow.expect_iptables) if flow.expect_iptables else flow
