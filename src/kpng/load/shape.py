"""The shape of a cluster: how many services, endpoints, zones and nodes, and where each of them is.

Everything is a function of the numbers: the same shape is the same cluster, byte for byte, on every machine.
"""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv6Address
from typing import NamedTuple

import msgspec
from msgspec import Struct

from kpng.model import UserError

_CLUSTER_IPS = 10 << 24 | 96 << 16  # 10.96.0.0/12, where kubeadm has them
_CLUSTER_IPS_V6 = int(IPv6Address("fd00:10:96::"))
_FIRST_CLUSTER_IP = 256  # below are those that people ask for by name (KEP-3070)
_PODS = 10 << 24 | 128 << 16
_PODS_V6 = int(IPv6Address("fd00:10:128::"))
_PODS_BITS = 23
_NODES = 172 << 24 | 16 << 16
_NODES_V6 = int(IPv6Address("fd00:172:16::"))
_NODE_BITS = 20
_MIN_POD_BITS = 8  # a /24 for each node, as usual
_SPARE = 4  # addresses per pod, so that a pod's successor has another one
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # those of generated names (apimachinery, util/rand)
_PAIRS = [first + second for first in _LETTERS for second in _LETTERS]
_SUFFIXES = len(_LETTERS) ** 5
_OFFSET = 0x9E3779B9
_SPREAD = 2654435761  # Knuth's multiplicative hash: neighbours get unlike names

POD_CIDRS = ("10.128.0.0/9", "fd00:10:128::/48")
"""All pods' addresses are in here."""


class Site(NamedTuple):
    """A node's name, and the zone it is in ("": none)."""

    name: str
    zone: str


class Shape(Struct, frozen=True, kw_only=True, dict=True):
    """``endpoints`` and ``ports`` are per service, ``slice_size`` is of endpoints (the controller's limit is 100).

    ``sites``: nodes that exist already, instead of ``nodes`` many of our own. ``hints``: each endpoint is for its
    own zone (KEP-2433). ``cluster_ips=False`` leaves it to the API server to give them out. Raises `UserError`
    for numbers that do not go together.
    """

    services: int = 1000
    endpoints: int = 10
    zones: int = 3
    nodes: int = 100
    ports: int = 1
    namespaces: int = 1
    slice_size: int = 100
    prefix: str = "kpng-load"
    dual_stack: bool = False
    hints: bool = False
    cluster_ips: bool = True
    sites: tuple[Site, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("services", "zones", "nodes", "ports", "namespaces", "slice_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} is not at least 1")
        if self.endpoints < 0:
            raise UserError(f"endpoints: {self.endpoints} is negative")
        if self.slice_size > 1000:
            raise UserError(
                f"slice_size: {self.slice_size}, but the API server takes at most 1000 endpoints a slice"
            )
        if self.services > (1 << _NODE_BITS) - _FIRST_CLUSTER_IP:
            raise UserError(f"services: {self.services} are more than 10.96.0.0/12 has addresses for")
        if self.node_count > 1 << _NODE_BITS or self.node_count << self.pod_bits > 1 << _PODS_BITS:
            raise UserError(f"{self.total} endpoints on {self.node_count} nodes do not fit into 10.128.0.0/9")

    @cached_property
    def total(self) -> int:
        """All endpoints at the start."""
        return self.services * self.endpoints

    @cached_property
    def node_count(self) -> int:
        return len(self.sites) or self.nodes

    @cached_property
    def pod_bits(self) -> int:
        """The host part of a node's pod network, in bits."""
        busiest = -(-self.total // self.node_count)
        return max(_MIN_POD_BITS, (busiest * _SPARE + 2).bit_length())

    @property
    def places(self) -> int:
        """How many pods there is room for."""
        return self.node_count * ((1 << self.pod_bits) - 2)

    # -- names ---------------------------------------------------------------------------------------------

    def namespace(self, service: int) -> str:
        return self.prefix if self.namespaces == 1 else f"{self.prefix}-{service % self.namespaces}"

    def service_name(self, service: int) -> str:
        return f"{self.prefix}-{service:05}"

    def slice_name(self, service: int, number: int, family: str) -> str:
        """As the controller makes them: the service's name and five letters."""
        kind = number * 2 + (family == "IPv6")
        return f"{self.service_name(service)}-{self._five_letters(service + (kind << 20))}"

    def pod_name(self, service: int, serial: int) -> str:
        """As a Deployment makes them."""
        template = self._five_letters(service) + self._five_letters(service + 1)
        return f"{self.service_name(service)}-{template}-{self._five_letters(serial)}"

    def site(self, node: int) -> Site:
        if self.sites:
            return self.sites[node]
        return Site(f"{self.prefix}-node-{node:04}", f"zone-{node % self.zones}")

    def _five_letters(self, number: int) -> str:
        """Distinct for distinct numbers (of less than 27 to the fifth), and not in order."""
        left, last = divmod((number * _SPREAD + self.seed + _OFFSET) % _SUFFIXES, 27)
        return _PAIRS[left // 729] + _PAIRS[left % 729] + _LETTERS[last]

    # -- places --------------------------------------------------------------------------------------------

    def node_of(self, serial: int) -> int:
        """The node a pod runs on."""
        return serial % self.node_count

    def pod_address(self, serial: int, family: str) -> str:
        host = 1 + serial // self.node_count % ((1 << self.pod_bits) - 2)
        offset = (self.node_of(serial) << self.pod_bits) + host
        return _address(_PODS, _PODS_V6, offset, family)

    def pod_cidr(self, node: int, family: str) -> str:
        length = (32 if family == "IPv4" else 128) - self.pod_bits
        return f"{_address(_PODS, _PODS_V6, node << self.pod_bits, family)}/{length}"

    def node_address(self, node: int, family: str) -> str:
        return _address(_NODES, _NODES_V6, node + 1, family)

    def cluster_ip(self, service: int, family: str) -> str:
        return _address(_CLUSTER_IPS, _CLUSTER_IPS_V6, service + _FIRST_CLUSTER_IP, family)

    @cached_property
    def families(self) -> tuple[str, ...]:
        return ("IPv4", "IPv6") if self.dual_stack else ("IPv4",)


def parse_shape(text: str) -> Shape:
    """Read "services=10000,endpoints=10,dual_stack": fields of `Shape`, but for ``sites``. Raises `UserError`."""
    fields = {name: value or "true" for name, _, value in (part.partition("=") for part in text.split(","))}
    unknown = fields.keys() - (set(Shape.__struct_fields__) - {"sites"})
    if unknown:
        raise UserError(f"shape {text!r}: unknown {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert(fields, Shape, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"shape {text!r}: {error}") from error


def _address(base: int, base_v6: int, offset: int, family: str) -> str:
    if family == "IPv6":
        return str(IPv6Address(base_v6 + offset))
    number = base + offset
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
