"""Kubernetes objects as the API spells them: only the fields that kpng needs, decoded straight into structs.

Every field tolerates ``null`` and absence: the bookmark that ends a WatchList carries ``"endpoints": null``, and
manifests leave out what the API server would default. Checks of values belong to `kpng.kube.convert`. What is the
same in thousands of objects (their ports, hints) is hashable, so that it is converted once.
"""

from __future__ import annotations

from msgspec import Raw, Struct, field

StringMap = dict[str, str | None] | None


class Metadata(Struct, gc=False, kw_only=True, frozen=True):
    """ObjectMeta."""

    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = field(name="resourceVersion", default=None)
    deletion_timestamp: str | None = field(name="deletionTimestamp", default=None)
    labels: StringMap = None
    annotations: StringMap = None


NO_METADATA = Metadata()


class ServicePort(Struct, gc=False, kw_only=True, frozen=True):
    """An entry of ``spec.ports``."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    target_port: int | str | None = field(name="targetPort", default=None)
    node_port: int | None = field(name="nodePort", default=None)


class ClientIPConfig(Struct, gc=False):
    """``spec.sessionAffinityConfig.clientIP``."""

    timeout_seconds: int | None = field(name="timeoutSeconds", default=None)


class SessionAffinityConfig(Struct, gc=False):
    """``spec.sessionAffinityConfig``."""

    client_ip: ClientIPConfig | None = field(name="clientIP", default=None)


class ServiceSpec(Struct, gc=False, kw_only=True):
    """The ``spec`` of a Service."""

    type: str | None = None
    cluster_ip: str | None = field(name="clusterIP", default=None)
    cluster_ips: list[str] | None = field(name="clusterIPs", default=None)
    ip_families: list[str] | None = field(name="ipFamilies", default=None)
    external_ips: list[str] | None = field(name="externalIPs", default=None)
    ports: tuple[ServicePort, ...] | None = None
    session_affinity: str | None = field(name="sessionAffinity", default=None)
    session_affinity_config: SessionAffinityConfig | None = field(name="sessionAffinityConfig", default=None)
    internal_traffic_policy: str | None = field(name="internalTrafficPolicy", default=None)
    external_traffic_policy: str | None = field(name="externalTrafficPolicy", default=None)
    health_check_node_port: int | None = field(name="healthCheckNodePort", default=None)
    source_ranges: list[str] | None = field(name="loadBalancerSourceRanges", default=None)


class LoadBalancerIngress(Struct, gc=False, kw_only=True):
    """An entry of ``status.loadBalancer.ingress``."""

    ip: str | None = None
    ip_mode: str | None = field(name="ipMode", default=None)


class LoadBalancerStatus(Struct, gc=False):
    """``status.loadBalancer``."""

    ingress: list[LoadBalancerIngress] | None = None


class ServiceStatus(Struct, gc=False):
    """The ``status`` of a Service."""

    load_balancer: LoadBalancerStatus | None = field(name="loadBalancer", default=None)


class Service(Struct, gc=False, kw_only=True):
    """A Service (v1)."""

    metadata: Metadata = NO_METADATA
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class EndpointConditions(Struct, gc=False, kw_only=True):
    """``endpoints[].conditions``; what ``null`` means is told in `kpng.kube.convert.slices`."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(Struct, gc=False, kw_only=True):
    """``endpoints[].targetRef``."""

    kind: str | None = None
    name: str | None = None


class Hint(Struct, gc=False, frozen=True):
    """An entry of ``hints.forZones`` or ``hints.forNodes``."""

    name: str | None = None


class EndpointHints(Struct, gc=False, kw_only=True):
    """``endpoints[].hints`` (KEP-2433, KEP-3015)."""

    for_zones: tuple[Hint, ...] | None = field(name="forZones", default=None)
    for_nodes: tuple[Hint, ...] | None = field(name="forNodes", default=None)


class SliceEndpoint(Struct, gc=False, kw_only=True):
    """An entry of ``endpoints``."""

    addresses: list[str] | None = None
    conditions: EndpointConditions | None = None
    hostname: str | None = None
    target_ref: ObjectReference | None = field(name="targetRef", default=None)
    node_name: str | None = field(name="nodeName", default=None)
    zone: str | None = None
    hints: EndpointHints | None = None


class SlicePort(Struct, gc=False, kw_only=True, frozen=True):
    """An entry of ``ports``."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointSlice(Struct, gc=False, kw_only=True):
    """An EndpointSlice (discovery.k8s.io/v1)."""

    metadata: Metadata = NO_METADATA
    address_type: str | None = field(name="addressType", default=None)
    endpoints: list[SliceEndpoint] | None = None
    ports: tuple[SlicePort, ...] | None = None


class Taint(Struct, gc=False):
    """An entry of ``spec.taints``."""

    key: str | None = None


class NodeSpec(Struct, gc=False, kw_only=True):
    """The ``spec`` of a Node."""

    pod_cidr: str | None = field(name="podCIDR", default=None)
    pod_cidrs: list[str] | None = field(name="podCIDRs", default=None)
    taints: list[Taint] | None = None


class NodeAddress(Struct, gc=False):
    """An entry of ``status.addresses``."""

    type: str | None = None
    address: str | None = None


class NodeStatus(Struct, gc=False):
    """The ``status`` of a Node."""

    addresses: list[NodeAddress] | None = None


class Node(Struct, gc=False, kw_only=True):
    """A Node (v1)."""

    metadata: Metadata = NO_METADATA
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class ServiceCIDRSpec(Struct, gc=False):
    """The ``spec`` of a ServiceCIDR."""

    cidrs: list[str] | None = None


class ServiceCIDR(Struct, gc=False, kw_only=True):
    """A ServiceCIDR (networking.k8s.io/v1)."""

    metadata: Metadata = NO_METADATA
    spec: ServiceCIDRSpec | None = None


Object = Service | EndpointSlice | Node | ServiceCIDR


class ListMetadata(Struct, gc=False, kw_only=True, frozen=True):
    """ListMeta."""

    resource_version: str | None = field(name="resourceVersion", default=None)
    continue_token: str | None = field(name="continue", default=None)


class ObjectList(Struct, kw_only=True):
    """A list of any kind; each item is decoded on its own, so that one bad object spoils no other."""

    metadata: ListMetadata = ListMetadata()
    items: list[Raw] | None = None


class WatchEvent(Struct, gc=False):
    """One line of a watch."""

    type: str
    object: Raw


class AnyObject(Struct, gc=False):
    """What every object has: for bookmarks, and to name an object that does not decode."""

    metadata: Metadata = NO_METADATA


class Status(Struct, gc=False, kw_only=True):
    """What the API server answers instead of an object (meta/v1)."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
