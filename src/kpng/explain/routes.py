"""Which endpoints count for a packet, and whether it is masqueraded: the table of policies (D, E12, F)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .frontends import Frontend
from .sender import Origin, Sender
from .settings import Settings

ScopeName = Literal["internal", "external", "short_circuit"]


class Route(Struct, frozen=True):
    """``policy``: the service's, as it stands in its spec. ``scope``: the endpoints that count. ``masquerade``:
    what holds for all of them but the exceptions of `targets`; ``why``: why so."""

    policy: str
    scope: ScopeName
    masquerade: bool
    why: str

    @property
    def is_local(self) -> bool:
        """Whether only endpoints on this node count."""
        return self.policy.endswith("Local") and self.scope != "short_circuit"


def route_of(frontend: Frontend, sender: Sender, settings: Settings) -> Route:
    """The way that the policies of a service give to a packet."""
    if not frontend.is_external:
        return _internal(frontend, sender, settings)
    if not frontend.service.external_traffic_local:
        why = "externalTrafficPolicy Cluster: answers must come back by this node"
        return Route("externalTrafficPolicy Cluster", "external", True, why)
    return _external_local(frontend, sender)


def _internal(frontend: Frontend, sender: Sender, settings: Settings) -> Route:
    """The policy makes no difference to masquerading (D2, D3)."""
    local = frontend.service.internal_traffic_local
    masquerade, why = _masquerades_to_cluster_ips(sender, settings)
    return Route(f"internalTrafficPolicy {'Local' if local else 'Cluster'}", "internal", masquerade, why)


def _masquerades_to_cluster_ips(sender: Sender, settings: Settings) -> tuple[bool, str]:
    if settings.masquerade_all:
        return True, "--masquerade-all"
    if sender.is_pod is None:
        return False, "pods cannot be told from others, so none is"
    if sender.is_pod:
        return False, "a pod reaches the endpoint with its own address"
    return True, "not from a pod: answers must come back by this node"


def _external_local(frontend: Frontend, sender: Sender) -> Route:
    """What begins in the cluster does not go out and come back, but uses what the Cluster policy would (F)."""
    policy = "externalTrafficPolicy Local"
    outside = Route(policy, "external", False, f"{policy}: the endpoint sees the client's address")
    if sender.origin is Origin.OUTSIDE or not _has_short_circuit(frontend):
        return outside
    if sender.origin is Origin.POD:
        return Route(policy, "short_circuit", False, "a pod reaches the endpoint with its own address")
    return Route(policy, "short_circuit", True, "from this node itself: answers must come back here")


def _has_short_circuit(frontend: Frontend) -> bool:
    """A Go brain does not tell this scope; what it does tell then holds for everybody."""
    scopes = [endpoint.scopes for endpoint in frontend.local.endpoints.values()]
    return any(scope.short_circuit for scope in scopes) or not any(scope.external for scope in scopes)
