"""A Kubernetes Service in kpng's words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from sys import intern

from kpng.kube.objects import Service as KubeService
from kpng.kube.objects import ServicePort, ServiceSpec
from kpng.model import (
    FAMILIES,
    Family,
    IPSet,
    PortMapping,
    Problem,
    Protocol,
    Service,
    check_port_name,
    check_service_address,
    family_of,
    parse_cidr,
    quoted,
)

from .common import FAMILY_NAMES, Faults, shared_name

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
_DEFAULT_AFFINITY_SECONDS = 10800
_MAX_AFFINITY_SECONDS = 86400
_NO_SPEC = ServiceSpec()
_NO_IPS = IPSet()
_IPV4, _IPV6 = FAMILIES


def service_fields(kube: KubeService, faults: Faults, *, external_ips: bool = True) -> Service | None:
    """The Service without labels and annotations; None where it is nothing to proxy (type ExternalName, no
    cluster IP). A bad part is left out and noted in ``faults``. ``external_ips``: whether those count."""
    spec = kube.spec or _NO_SPEC
    kind = spec.type or "ClusterIP"
    if kind == "ExternalName":
        return None
    if kind not in _TYPES:
        faults.add("spec.type", f"{quoted(kind)} is not a type of Service")
        return None
    kind = intern(kind)
    name, namespace = kube.metadata.name or "", shared_name(kube.metadata.namespace or "default")
    ports, problems = _ports(spec.ports or ())
    faults.extend(problems)
    if spec.cluster_ip == "None" or "None" in (spec.cluster_ips or ()):
        return Service(namespace=namespace, name=name, type=kind, headless=True, ports=ports)
    cluster_ips = _cluster_ips(spec, faults)
    if not cluster_ips:
        return None
    allowed = _addresses(spec.external_ips, "spec.externalIPs[{}]", faults) if external_ips else _NO_IPS
    source_ranges = _source_ranges(spec, faults) if spec.source_ranges else ()
    external_local = _external_local(spec, kind, allowed)
    return Service(
        namespace=namespace,
        name=name,
        type=kind,
        cluster_ips=cluster_ips,
        external_ips=allowed,
        load_balancer_ips=_load_balancer_ips(kube, kind, source_ranges, faults),
        ports=ports,
        internal_traffic_local=spec.internal_traffic_policy == "Local",
        external_traffic_local=external_local,
        session_affinity_seconds=_affinity_seconds(spec, faults),
        source_ranges=source_ranges or (),
        health_check_node_port=_health_check_port(spec, faults) if external_local and kind == "LoadBalancer" else 0,
    )


# -- addresses -------------------------------------------------------------------------------------


def _cluster_ips(spec: ServiceSpec, faults: Faults) -> IPSet:
    """One cluster IP a family; with ``ipFamilies``, the IP at the index of its family."""
    field = "spec.clusterIPs[{}]" if spec.cluster_ips else "spec.clusterIP"
    texts = [text for text in spec.cluster_ips or (spec.cluster_ip,) if text]
    if not texts:
        faults.add("spec.clusterIP", "not set; a file source does not allocate addresses")
    found: dict[Family, tuple[str]] = {}
    for index, text in enumerate(texts):
        address = faults.check(check_service_address, text, field, index)
        if address is None:
            continue
        family = family_of(address)
        if spec.ip_families and family is not _family_at(spec.ip_families, index):
            fitting = ", ".join(spec.ip_families)
            faults.add(field, f"{address} does not fit spec.ipFamilies ({fitting})", index)
        elif family in found:
            faults.add(field, f"{address} is a second cluster IP of its family", index)
        else:
            found[family] = (address,)
    return IPSet(found.get(_IPV4, ()), found.get(_IPV6, ()))


def _family_at(families: list[str], index: int) -> Family | None:
    return FAMILY_NAMES.get(families[index]) if index < len(families) else None


def _addresses(texts: list[str] | None, field: str, faults: Faults) -> IPSet:
    if not texts:
        return _NO_IPS
    checked = (faults.check(check_service_address, text, field, index) for index, text in enumerate(texts))
    return IPSet.of(address for address in checked if address)


def _load_balancer_ips(kube: KubeService, kind: str, ranges: tuple[str, ...] | None, faults: Faults) -> IPSet:
    """The ingress IPs that kpng is to serve: not those of mode Proxy (KEP-1860), not host names.

    Where source ranges were asked for and none is valid (``ranges`` is None), none: failing open would let in
    everybody whom the ranges were to keep out.
    """
    balancer = kube.status.load_balancer if kube.status else None
    if kind != "LoadBalancer" or balancer is None or ranges is None:
        return _NO_IPS
    addresses = []
    for index, ingress in enumerate(balancer.ingress or ()):
        if ingress.ip and ingress.ip_mode in (None, "VIP"):
            field = "status.loadBalancer.ingress[{}].ip"
            address = faults.check(check_service_address, ingress.ip, field, index)
            if address is not None:
                addresses.append(address)
    return IPSet.of(addresses)


def _source_ranges(spec: ServiceSpec, faults: Faults) -> tuple[str, ...] | None:
    """Canonical CIDRs; None if there are some and all are invalid."""
    field = "spec.loadBalancerSourceRanges"
    ranges = set()
    for index, text in enumerate(spec.source_ranges or ()):
        cidr = faults.check(parse_cidr, text, field + "[{}]", index)
        if cidr is not None:
            ranges.add(cidr)
    if spec.source_ranges and not ranges:
        faults.add(field, "no valid range: the load-balancer IPs are not served")
        return None
    return tuple(sorted(ranges))


# -- ports and policies ----------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _ports(ports: tuple[ServicePort, ...]) -> tuple[tuple[PortMapping, ...], list[Problem]]:
    """The ports that can be used, and problems without a subject: very many Services have the same ports."""
    faults = Faults("", "")
    return tuple(_usable_ports(ports, faults)), faults.problems


def _usable_ports(ports: tuple[ServicePort, ...], faults: Faults) -> Iterator[PortMapping]:
    seen: set[tuple[str | int, Protocol]] = set()
    for index, port in enumerate(ports):
        mapping = _port(port, index, faults)
        if mapping is None:
            continue
        names = (mapping.name, mapping.protocol)
        numbers = (mapping.port, mapping.protocol)
        if names in seen or numbers in seen:
            said = f"a second port {mapping.port}/{mapping.protocol.name} {mapping.name}".rstrip()
            faults.add("spec.ports[{}]", said, index)
            continue
        seen |= {names, numbers}
        yield mapping


def _port(port: ServicePort, index: int, faults: Faults) -> PortMapping | None:
    protocol = faults.protocol(port.protocol, "spec.ports[{}].protocol", index)
    if not faults.port(port.port, "spec.ports[{}].port", index) or protocol is None or port.port is None:
        return None
    name = faults.name(check_port_name, port.name, "spec.ports[{}].name", index)
    if port.name and not name:
        return None
    node_port = port.node_port or 0
    if node_port and not faults.port(node_port, "spec.ports[{}].nodePort", index):
        node_port = 0
    target = port.target_port or port.port
    number, target_name = 0, ""
    if isinstance(target, str):
        target_name = faults.name(check_port_name, target, "spec.ports[{}].targetPort", index)
    elif faults.port(target, "spec.ports[{}].targetPort", index):
        number = target
    if not number and not target_name:
        return None
    return PortMapping(port.port, protocol, name, node_port, number, target_name)


def _external_local(spec: ServiceSpec, kind: str, external_ips: IPSet) -> bool:
    """The policy says something only where there is traffic from outside."""
    reachable = kind != "ClusterIP" or bool(external_ips)
    return spec.external_traffic_policy == "Local" and reachable


def _health_check_port(spec: ServiceSpec, faults: Faults) -> int:
    port = spec.health_check_node_port or 0
    return port if port and faults.port(port, "spec.healthCheckNodePort") else 0


def _affinity_seconds(spec: ServiceSpec, faults: Faults) -> int:
    if spec.session_affinity in (None, "", "None"):
        return 0
    if spec.session_affinity != "ClientIP":
        faults.add("spec.sessionAffinity", f"{quoted(spec.session_affinity)} is not known (None, ClientIP)")
        return 0
    config = spec.session_affinity_config.client_ip if spec.session_affinity_config else None
    seconds = config.timeout_seconds if config else None
    if seconds is None:
        return _DEFAULT_AFFINITY_SECONDS
    if not 1 <= seconds <= _MAX_AFFINITY_SECONDS:
        where = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        faults.add(where, f"{seconds} is not between 1 and {_MAX_AFFINITY_SECONDS}")
        return _DEFAULT_AFFINITY_SECONDS
    return seconds
