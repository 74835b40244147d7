"""Cluster addresses and node ports of Services: defaults, hand-out, collisions, release."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.errors import FieldError
from kpng.lab.apiserver.registry import SERVICE, Key, Kind, Object

_FIRST_RESERVED = 256
"""Addresses below are for those who ask for one by name first (KEP-3070 reserves a band; ours is fixed)."""


class ServiceAllocator:
    """Gives out what a Service needs; ``record`` must see every change, as an observer of the storage.

    ``assign`` reserves nothing, so that a dry run needs no undoing.
    """

    def __init__(self, cidrs: Sequence[str], node_ports: range) -> None:
        self.networks: dict[str, IPv4Network | IPv6Network] = {}
        for cidr in cidrs:
            network = ip_network(cidr)
            self.networks[f"IPv{network.version}"] = network
        self.families = list(self.networks)
        self.node_ports = node_ports
        self._addresses: dict[str, Key] = {}
        self._ports: dict[tuple[str, int], Key] = {}

    def record(self, kind: Kind, before: Object | None, after: Object | None) -> None:
        """Take note of a stored change: what ``before`` held is free, what ``after`` holds is taken."""
        if kind is not SERVICE:
            return
        if before is not None:
            for address in _addresses(before["spec"]):
                self._addresses.pop(address, None)
            for port in _ports(before["spec"]):
                self._ports.pop(port, None)
        if after is not None:
            owner = SERVICE.key(after)
            self._addresses.update(dict.fromkeys(_addresses(after["spec"]), owner))
            self._ports.update(dict.fromkeys(_ports(after["spec"]), owner))

    def assign(self, service: Object, before: Object | None) -> list[FieldError]:
        """Fill in families, addresses and ports of ``service``, keeping those of ``before``."""
        spec, old = service["spec"], (before or {}).get("spec", {})
        owner = SERVICE.key(service)
        faults = self._assign_addresses(spec, old, owner) if spec.get("type") != "ExternalName" else []
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            faults += self._assign_node_ports(spec, old, owner)
        if needs_health_check_port(spec):
            faults += self._assign_health_check_port(spec, old, owner)
        return faults

    # -- addresses -----------------------------------------------------------------------------------------

    def _assign_addresses(self, spec: Object, old: Object, owner: Key) -> list[FieldError]:
        if spec.get("clusterIP") == "None" and not spec.get("selector") and not spec.get("ipFamilies"):
            spec.setdefault("ipFamilyPolicy", "RequireDualStack" if len(self.families) > 1 else "SingleStack")
        faults = self._assign_families(spec, old)
        if faults:
            return faults
        if spec.get("clusterIP") == "None":
            spec["clusterIPs"] = ["None"]
            return []
        wanted = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
        kept = [] if "None" in old.get("clusterIPs", ()) else old.get("clusterIPs", [])
        wanted += kept[len(wanted) : len(spec["ipFamilies"])]
        for address in wanted:
            faults += self._check_address(address, wanted, owner)
        if not faults:
            wanted += [self._free_address(family) for family in spec["ipFamilies"][len(wanted) :]]
            spec["clusterIPs"], spec["clusterIP"] = wanted, wanted[0]
        return faults

    def _assign_families(self, spec: Object, old: Object) -> list[FieldError]:
        """Fill in ipFamilyPolicy and ipFamilies (KEP-563)."""
        asked = [address for address in spec.get("clusterIPs") or [spec.get("clusterIP")] if address]
        implied = [f"IPv{ip_address(address).version}" for address in asked if address != "None"]
        families = list(spec.get("ipFamilies") or implied or old.get("ipFamilies", ()))
        policy = spec.get("ipFamilyPolicy") or old.get("ipFamilyPolicy")
        policy = policy or ("RequireDualStack" if len(families) > 1 else "SingleStack")
        for index, family in enumerate(families):
            if family not in self.families:
                detail = f"not configured on this cluster: {', '.join(self.families)}"
                return [errors.invalid_value(f"spec.ipFamilies[{index}]", family, detail)]
        if policy == "RequireDualStack" and len(self.families) < 2:
            detail = "this cluster is not configured for dual-stack services"
            return [errors.invalid_value("spec.ipFamilyPolicy", policy, detail)]
        if policy == "SingleStack" and len(families) > 1 and not old:
            detail = "must be RequireDualStack or PreferDualStack when multiple IP families are specified"
            return [errors.invalid_value("spec.ipFamilyPolicy", policy, detail)]
        families = families or self.families[:1]
        if policy == "SingleStack":
            families = families[:1]
            spec["clusterIPs"] = list(spec.get("clusterIPs") or ())[:1]
        else:
            families += [family for family in self.families if family not in families]
        spec["ipFamilyPolicy"], spec["ipFamilies"] = policy, families
        return []

    def _check_address(self, address: str, wanted: list[str], owner: Key) -> list[FieldError]:
        network = self.networks.get(f"IPv{ip_address(address).version}")
        if network is None or ip_address(address) not in network:
            detail = f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}"
        elif self._addresses.get(address, owner) != owner:
            detail = "provided IP is already allocated"
        else:
            return []
        return [errors.invalid_value("spec.clusterIPs", wanted, f"failed to allocate IP {address}: {detail}")]

    def _free_address(self, family: str) -> str:
        network = self.networks[family]
        for offset in _offsets(network.num_addresses):
            address = str(network[offset])
            if address not in self._addresses:
                return address
        raise errors.ApiError(500, "InternalError", f"failed to allocate a serviceIP: range {network} is full")

    # -- ports ---------------------------------------------------------------------------------------------

    def _assign_node_ports(self, spec: Object, old: Object, owner: Key) -> list[FieldError]:
        if spec.get("allocateLoadBalancerNodePorts") is False and spec["type"] == "LoadBalancer":
            automatic = []
        else:
            automatic = [port for port in spec.get("ports") or () if not port.get("nodePort")]
        known = {_identity(port): port.get("nodePort") for port in old.get("ports") or ()}
        for port in automatic:
            if number := known.get(_identity(port)):
                port["nodePort"] = number
        faults = self._check_node_ports(spec, owner)
        if faults:
            return faults
        mine = set(_ports(spec))
        for port in automatic:
            if not port.get("nodePort"):
                port["nodePort"] = self._free_port(port["protocol"], mine)
                mine.add((port["protocol"], port["nodePort"]))
        return []

    def _check_node_ports(self, spec: Object, owner: Key) -> list[FieldError]:
        faults, seen = [], set()
        for index, port in enumerate(spec.get("ports") or ()):
            number = port.get("nodePort")
            if not number:
                continue
            field, pair = f"spec.ports[{index}].nodePort", (port["protocol"], number)
            if number not in self.node_ports:
                valid = f"{self.node_ports[0]}-{self.node_ports[-1]}"
                detail = f"provided port is not in the valid range. The range of valid ports is {valid}"
                faults.append(errors.invalid_value(field, number, detail))
            elif pair in seen or self._ports.get(pair, owner) != owner:
                faults.append(errors.invalid_value(field, number, "provided port is already allocated"))
            seen.add(pair)
        return faults

    def _assign_health_check_port(self, spec: Object, old: Object, owner: Key) -> list[FieldError]:
        number = spec.get("healthCheckNodePort") or old.get("healthCheckNodePort")
        mine = set(_ports(spec))
        if not number:
            number = self._free_port("TCP", mine)
        elif self._ports.get(("TCP", number), owner) != owner:
            text = f"failed to allocate requested HealthCheck NodePort {number}: provided port is already allocated"
            return [errors.invalid_value("spec.healthCheckNodePort", number, text)]
        spec["healthCheckNodePort"] = number
        return []

    def _free_port(self, protocol: str, mine: set[tuple[str, int]]) -> int:
        size = len(self.node_ports)
        band = min(max(16, size // 32), 128) if size > 16 else 0  # left to those who ask by number (KEP-3668)
        start = random.randrange(band, size)
        for index in (*range(start, size), *range(band, start), *range(band)):
            number: int = self.node_ports[index]
            if (protocol, number) not in self._ports and (protocol, number) not in mine:
                return number
        raise errors.ApiError(500, "InternalError", "failed to allocate a nodePort: range is full")


def needs_health_check_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _offsets(size: int) -> Iterator[int]:
    """Where in a range of ``size`` addresses to look: the upper part first, never the very first or last."""
    split = min(_FIRST_RESERVED, size // 2)
    top = min(size - 1, 1 << 20)
    start = random.randrange(split, top) if top > split else split
    yield from range(start, top)
    yield from range(split, start)
    yield from range(1, split)


def _addresses(spec: Object) -> list[str]:
    return [address for address in spec.get("clusterIPs") or () if address != "None"]


def _ports(spec: Object) -> Iterator[tuple[str, int]]:
    for port in spec.get("ports") or ():
        if number := port.get("nodePort"):
            yield port["protocol"], number
    if number := spec.get("healthCheckNodePort"):
        yield "TCP", number


def _identity(port: Object) -> tuple[str, int]:
    return port["protocol"], port["port"]
