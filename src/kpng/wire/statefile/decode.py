"""A state file's data -> the global state. A bad part is left out and told; everything else counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from kpng.model import (
    EndpointInfo,
    EndpointPort,
    EndpointSource,
    Family,
    InvalidObjectError,
    IPSet,
    Node,
    PortMapping,
    Problem,
    Protocol,
    Service,
    ServiceKey,
    check_endpoint_address,
    check_name,
    check_port_name,
    check_service_type,
    check_zone,
    family_of,
    parse_address,
    parse_cidr,
    protocols_of,
    quoted,
    resolve_port,
)
from kpng.model.shape import split_validation_error

from . import schema
from .state import State

S = TypeVar("S", bound=Struct)

Override = tuple[str, int, Protocol | None]
"""(port name, port, protocol where the file gives one)."""

_MAX_AFFINITY_SECONDS = 86400


def is_state(document: object) -> bool:
    """Whether this is a state file's document rather than a Kubernetes object."""
    return (
        isinstance(document, dict)
        and "kind" not in document
        and not document.keys().isdisjoint(("services", "nodes"))
    )


def decode_state(document: object, origin: str = "") -> tuple[State, list[Problem]]:
    """The state in a file's (one) document, and what was wrong with it. Go kpng's defaults hold: namespace
    ``default``, an endpoint is ready, its source is named after the service."""
    decoder = _StateDecoder(origin)
    decoder.file(document)
    return decoder.state, decoder.problems


def complete_ports(overrides: Sequence[Override], mappings: Sequence[PortMapping]) -> tuple[EndpointPort, ...]:
    """An endpoint's ports out of ``portoverrides``.

    Go's rule (its ``Endpoint.PortMapping``): an override belongs to the service ports of its name; without one, a
    named port is not served, and an unnamed one is, on the service's target port. If any override has a protocol
    (our addition), the list is complete as it is.
    """
    if any(protocol is not None for _, _, protocol in overrides):
        return tuple(EndpointPort(name, port, protocol or Protocol.TCP) for name, port, protocol in overrides)
    if not overrides:
        return ()
    ports: dict[tuple[str, Protocol], EndpointPort] = {}
    for name, port, _ in overrides:
        for protocol in protocols_of(name, mappings):
            ports[name, protocol] = EndpointPort(name, port, protocol)
    for mapping in mappings:
        target = 0 if mapping.name else resolve_port((), mapping)
        if target:
            ports.setdefault(("", mapping.protocol), EndpointPort("", target, mapping.protocol))
    return tuple(ports.values())


class _StateDecoder:
    """Collects state and problems while it walks the document."""

    def __init__(self, origin: str) -> None:
        self.state = State()
        self.problems: list[Problem] = []
        self._origin = origin
        self._subject = "state file"
        self._at = ""

    def _problem(self, field: str, message: str) -> None:
        at = ".".join(part for part in (self._at, field) if part)
        self.problems.append(Problem(self._subject, at, message, self._origin))

    def _shape(self, data: object, shape: type[S]) -> S | None:
        """The data in its shape. Unknown keys are told; None, told as well, if a value is of the wrong type."""
        for path, hint in schema.unknown_keys(data, shape):
            self._problem(path, f"unknown key{hint}")
        try:
            return msgspec.convert(data, shape)
        except msgspec.ValidationError as error:
            self._problem(*split_validation_error(error))
            return None

    def _check(self, check: Callable[[str, str], str], text: str, field: str) -> str | None:
        try:
            return check(text, field)
        except InvalidObjectError as error:
            self._problem(error.field, error.message)
            return None

    # -- the file, Nodes ---------------------------------------------------------------------------

    def file(self, document: object) -> None:
        top = self._shape(document, schema.GlobalState)
        for index, data in enumerate(top.nodes or () if top else ()):
            self._subject, self._at = f"nodes[{index}]", ""
            self._node(data)
        for index, data in enumerate(top.services or () if top else ()):
            self._subject, self._at = f"services[{index}]", ""
            self._service_entry(data)
        for index, data in enumerate(top.servicecidrs or () if top else ()):
            self._subject, self._at = f"servicecidrs[{index}]", ""
            self._service_cidr(data)

    def _node(self, data: object) -> None:
        shape = self._shape(data, schema.Node)
        name = self._own_name(shape.name, "name") if shape else ""
        if shape is None or not name:
            return
        self._subject = f"Node {name}"
        if name in self.state.nodes:
            self._problem("", "is there twice; the first one counts")
            return
        zone = self._name(check_zone, shape.topology.zone, "topology.zone") if shape.topology else ""
        self.state.nodes[name] = Node(
            name=name,
            zone=zone,
            labels=_labels(shape.labels),
            annotations=_labels(shape.annotations),
            addresses=self._ips(shape.ips, "ips", parse_address),
            pod_cidrs=self._cidrs(shape.podcidrs, "podcidrs"),
            eligible=not shape.ineligible,
        )

    def _service_cidr(self, data: object) -> None:
        shape = self._shape(data, schema.ServiceCIDR)
        name = self._own_name(shape.name, "name") if shape else ""
        if shape is None or not name:
            return
        self._subject = f"ServiceCIDR {name}"
        if name in self.state.service_cidrs:
            self._problem("", "is there twice; the first one counts")
            return
        self.state.service_cidrs[name] = self._cidrs(shape.cidrs, "cidrs")

    def _cidrs(self, texts: list[str] | None, field: str) -> tuple[str, ...]:
        """Those that can be used."""
        found = (self._check(parse_cidr, text, f"{field}[{index}]") for index, text in enumerate(texts or ()))
        return tuple(cidr for cidr in found if cidr)

    def _own_name(self, name: str | None, field: str) -> str:
        """What an object is called; "" where it has no name that can be used."""
        if not name:
            self._problem(field, "not set")
        return self._name(check_name, name, field)

    def _name(self, check: Callable[[str, str], str], text: str | None, field: str) -> str:
        """The name; "" where there is none, or none that can be used, which is told."""
        return (self._check(check, text, field) or "") if text else ""

    # -- services ----------------------------------------------------------------------------------

    def _service_entry(self, data: object) -> None:
        entry = self._shape(data, schema.ServiceAndEndpoints)
        if entry is None:
            return
        self._at = "service"
        shape = self._shape(entry.service if entry.service is not None else {}, schema.Service)
        if shape is None:
            return
        key = ServiceKey(
            self._own_name(shape.namespace or "default", "namespace"), self._own_name(shape.name, "name")
        )
        if not all(key):
            return
        self._subject, self._at = f"Service {key}", ""
        if key in self.state.services:
            self._problem("", "is there twice; the first one counts")
            return
        service = self._service(shape, key)
        self.state.services[key] = service
        self._endpoints(entry.endpoints or [], service)

    def _service(self, shape: schema.Service, key: ServiceKey) -> Service:
        ips = shape.ips or schema.ServiceIPs()
        ranges = self._source_ranges(shape)
        balancer_ips = self._ips(ips.loadbalancerips, "ips.loadbalancerips", parse_address)
        return Service(
            namespace=key.namespace,
            name=key.name,
            type=self._name(check_service_type, shape.type, "type") or "ClusterIP",
            cluster_ips=self._ips(ips.clusterips, "ips.clusterips", parse_address),
            external_ips=self._ips(ips.externalips, "ips.externalips", parse_address),
            load_balancer_ips=IPSet() if ranges is None else balancer_ips,
            headless=bool(ips.headless),
            ports=tuple(self._ports(shape.ports or [])),
            internal_traffic_local=bool(shape.internaltraffictolocal),
            external_traffic_local=bool(shape.externaltraffictolocal),
            session_affinity_seconds=self._affinity(shape.sessionaffinity),
            source_ranges=ranges or (),
            health_check_node_port=self._port(shape.healthchecknodeport, "healthchecknodeport") or 0,
            labels=_labels(shape.labels),
            annotations=_labels(shape.annotations),
        )

    def _ips(self, ips: schema.IPs | None, field: str, check: Callable[[str, str], str]) -> IPSet:
        found = []
        for family, texts in ((Family.IPV4, ips.v4), (Family.IPV6, ips.v6)) if ips else ():
            for index, text in enumerate(texts or ()):
                where = f"{field}.v{family.value}[{index}]"
                address = self._check(check, text, where)
                if address is not None and family_of(address) is not family:
                    self._problem(where, f"{address} is not IPv{family.value}")
                elif address is not None:
                    found.append(address)
        return IPSet.of(found)

    def _source_ranges(self, shape: schema.Service) -> tuple[str, ...] | None:
        """None if there are some and all are invalid: failing open would let in who was to be kept out."""
        texts: list[tuple[str, str]] = []
        for number, rule in enumerate(shape.ipfilters or ()):
            if rule.targetips is not None and (rule.targetips.v4 or rule.targetips.v6):
                self._problem(f"ipfilters[{number}].targetips", "not supported; its ranges hold for all addresses")
            field = f"ipfilters[{number}].sourceranges"
            texts += [(text, f"{field}[{index}]") for index, text in enumerate(rule.sourceranges or ())]
        found = [self._check(parse_cidr, text, field) for text, field in texts]
        ranges = tuple(dict.fromkeys(cidr for cidr in found if cidr is not None))
        if texts and not ranges:
            self._problem("ipfilters", "no valid range: the load-balancer IPs are not served")
            return None
        return ranges

    def _affinity(self, affinity: schema.SessionAffinity | None) -> int:
        if affinity is None or affinity.clientip is None:
            return 0
        seconds = affinity.clientip.timeoutseconds
        if seconds is None or 1 <= seconds <= _MAX_AFFINITY_SECONDS:
            return 10800 if seconds is None else seconds
        field = "sessionaffinity.clientip.timeoutseconds"
        self._problem(field, f"{seconds} is not between 1 and {_MAX_AFFINITY_SECONDS}")
        return 10800

    # -- ports -------------------------------------------------------------------------------------

    def _ports(self, ports: list[schema.Port]) -> Iterator[PortMapping]:
        for index, port in enumerate(ports):
            where = f"ports[{index}]"
            protocol = self._protocol(port.protocol, f"{where}.protocol")
            number = self._port(port.port if port.port is not None else 0, f"{where}.port", needed=True)
            if protocol is None or number is None:
                continue
            target = self._port(port.targetport, f"{where}.targetport")
            if target is None:
                continue
            node_port = self._port(port.nodeport, f"{where}.nodeport") or 0
            name = self._name(check_port_name, port.name, f"{where}.name")
            target_name = self._name(check_port_name, port.targetportname, f"{where}.targetportname")
            if name != (port.name or "") or target_name != (port.targetportname or ""):
                continue
            yield PortMapping(number, protocol, name, node_port, target, target_name)

    def _port(self, number: int | None, field: str, *, needed: bool = False) -> int | None:
        """The port, 0 if it is left out; None, and a problem, if it is none."""
        number = number or 0
        if (0 < number <= 65535) or (number == 0 and not needed):
            return number
        self._problem(field, f"{number} is not a port number (1 to 65535)")
        return None

    def _protocol(self, value: int | str | None, field: str) -> Protocol | None:
        """Go writes the number; people may write the name. Left out: TCP."""
        names = {protocol.name: protocol for protocol in Protocol}
        protocol = names.get(value.upper()) if isinstance(value, str) else dict(enumerate(Protocol)).get(value or 1)
        if protocol is None or protocol is Protocol.UNKNOWN:
            self._problem(
                field,
                f"{quoted(value) if isinstance(value, str) else value} is not a protocol (1 TCP, 2 UDP, 3 SCTP)",
            )
            return None
        return protocol

    # -- endpoints ---------------------------------------------------------------------------------

    def _endpoints(self, entries: list[object], service: Service) -> None:
        sources: dict[str, list[EndpointInfo]] = {}
        for index, data in enumerate(entries):
            self._at = f"endpoints[{index}]"
            shape = self._shape(data, schema.EndpointInfo)
            endpoint = self._endpoint(shape, service) if shape else None
            if shape is None or endpoint is None:
                continue
            name = self._own_name(shape.sourcename or service.name, "sourcename")
            if not name:
                continue
            owner = self.state.sources.get((service.namespace, name))
            if owner is not None:
                self._problem("sourcename", f"{name!r} is already that of endpoints of Service {owner.service}")
                continue
            sources.setdefault(name, []).append(endpoint)
        for name, endpoints in sources.items():
            self.state.sources[service.namespace, name] = EndpointSource(service.key, tuple(endpoints))

    def _endpoint(self, shape: schema.EndpointInfo, service: Service) -> EndpointInfo | None:
        inner = shape.endpoint or schema.Endpoint()
        addresses = self._ips(inner.ips, "endpoint.ips", check_endpoint_address)
        if not addresses:
            if inner.ips is None or not (inner.ips.v4 or inner.ips.v6):
                self._problem("endpoint.ips", "not set")
            return None
        overrides = list(self._overrides(inner.portoverrides or []))
        if inner.portoverrides and not overrides:
            return None
        conditions = shape.conditions or schema.Conditions()
        topology = shape.topology or schema.Topology()
        hints = shape.hints or schema.Hints()
        return EndpointInfo(
            addresses=addresses,
            ports=complete_ports(overrides, service.ports),
            hostname=self._name(check_name, inner.hostname, "endpoint.hostname"),
            pod_name=self._name(check_name, shape.podname, "podname"),
            node=self._name(check_name, topology.node, "topology.node"),
            zone=self._name(check_zone, topology.zone, "topology.zone"),
            ready=conditions.ready is not False,
            serving=conditions.serving is not False,
            terminating=conditions.terminating is True,
            zone_hints=self._hints(check_zone, hints.zones, "hints.zones"),
            node_hints=self._hints(check_name, hints.nodes, "hints.nodes"),
        )

    def _hints(self, check: Callable[[str, str], str], names: list[str] | None, field: str) -> tuple[str, ...]:
        found = {self._name(check, name, f"{field}[{index}]") for index, name in enumerate(names or ())}
        return tuple(sorted(found - {""}))

    def _overrides(self, overrides: list[schema.PortOverride]) -> Iterator[Override]:
        for index, override in enumerate(overrides):
            where = f"endpoint.portoverrides[{index}]"
            port = self._port(override.port, f"{where}.port", needed=True)
            protocol = None
            if override.protocol is not None:
                protocol = self._protocol(override.protocol, f"{where}.protocol")
                if protocol is None:
                    continue
            name = self._name(check_port_name, override.name, f"{where}.name")
            if port is not None and name == (override.name or ""):
                yield name, port, protocol


def _labels(labels: schema.Labels) -> dict[str, str]:
    return {key: value or "" for key, value in labels.items()} if labels else {}
