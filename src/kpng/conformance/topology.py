"""Endpoint choice, held against recorded cases: no packets, no privileges.

The form of ``data/topology_cases.json``, whose ``meta.legend`` explains the fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from kpng.localize import choose, localize
from kpng.model import EndpointInfo, IPSet, Service
from kpng.store import ServiceRecord
from kpng.testing import endpoint_info, service

from .endpoints import endpoint_of
from .files import load
from .results import Result

Policy = Literal["Cluster", "Local"]
Text = Annotated[str, Meta(min_length=1)]
Answers = Mapping[str, frozenset[str] | bool]

_UNNAMED = "this-node"
_OTHER = "another-node"


class CaseNode(Struct, frozen=True):
    name: str
    zone_label: str | None = None


class CaseService(Struct, frozen=True):
    internal_traffic_policy: Policy
    external_traffic_policy: Policy
    externally_accessible: bool = True


class CaseEndpoint(Struct, frozen=True):
    address: Text
    local: bool
    ready: bool
    serving: bool
    terminating: bool
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()


class CaseExpectation(Struct, frozen=True):
    """None: the service never uses that policy."""

    cluster_endpoints: tuple[str, ...] | None
    local_endpoints: tuple[str, ...] | None
    has_any_endpoints: bool


class Case(Struct, frozen=True):
    """Endpoints of a service, and which of them a node must use."""

    name: Text
    node: CaseNode
    service: CaseService
    endpoints: tuple[CaseEndpoint, ...]
    expect: CaseExpectation

    @property
    def node_name(self) -> str:
        """Some upstream cases leave the node without a name."""
        return self.node.name or _UNNAMED

    @property
    def zone(self) -> str:
        return self.node.zone_label or ""


class _File(Struct):
    cases: tuple[Case, ...]


def load_cases(path: str | None = None) -> tuple[Case, ...]:
    """Read a file of cases, by default the one in the package. Raises `kpng.UserError`."""
    return load(path, "topology_cases.json", _File).cases


def run_cases(cases: Sequence[Case]) -> list[Result]:
    """Choose for each case, by policy and as scopes of a local service."""
    return [_result(case) for case in cases]


def _result(case: Case) -> Result:
    wanted, got = wanted_of(case), {**chosen(case), **scoped(case)}
    different = [name for name, value in wanted.items() if got[name] != value]
    expected, seen = (_text({name: each[name] for name in different or wanted}) for each in (wanted, got))
    return Result(case.name, "", expected, seen, "failed" if different else "passed")


def wanted_of(case: Case) -> Answers:
    """What must be answered: per policy, and per scope of a service with the case's policies."""
    lists = {"Cluster": case.expect.cluster_endpoints, "Local": case.expect.local_endpoints}
    service = case.service
    internal, external = service.internal_traffic_policy, service.external_traffic_policy
    wanted: dict[str, tuple[str, ...] | None] = {**lists, "internal": lists[internal], "external": lists[external]}
    if external == "Local" and service.externally_accessible:
        wanted["short_circuit"] = lists["Cluster"] or ()
    found = {name: frozenset(addresses) for name, addresses in wanted.items() if addresses is not None}
    return {"anywhere": case.expect.has_any_endpoints, **found}


def chosen(case: Case) -> Answers:
    """The pure choice: per policy the endpoints, and whether anybody could serve at all."""
    choice = choose([_info(endpoint, case.node_name) for endpoint in case.endpoints], case.node_name, case.zone)
    policies = {"Cluster": choice.cluster, "Local": choice.local}
    usable = {name: _addresses(case, [e.addresses for e in each]) for name, each in policies.items()}
    return {"anywhere": choice.anywhere, **usable}


def scoped(case: Case) -> Answers:
    """What a backend is given: each endpoint's scopes, and whether to reject (nobody) or to drop."""
    asked = _service(case)
    infos = tuple(_info(endpoint, case.node_name) for endpoint in case.endpoints)
    local = localize(ServiceRecord(asked.key, asked, {"slice": infos}), case.node_name, case.zone)
    assert local is not None, "a service with a cluster IP"
    usable = {
        scope: _addresses(case, [e.addresses for e in local.endpoints.values() if getattr(e.scopes, scope)])
        for scope in ("internal", "external", "short_circuit")
    }
    return {"anywhere": bool(local.service.ports[0].available), **usable}


def _service(case: Case) -> Service:
    policies = case.service
    made = service(
        "demo/web", "10.96.0.1", "fd00:96::1", ports="80@30080" if policies.externally_accessible else "80"
    )
    return replace(
        made,
        type="NodePort" if policies.externally_accessible else "ClusterIP",
        internal_traffic_local=policies.internal_traffic_policy == "Local",
        external_traffic_local=policies.external_traffic_policy == "Local",
    )


def _info(endpoint: CaseEndpoint, node: str) -> EndpointInfo:
    host, port = endpoint_of(endpoint.address)
    return endpoint_info(
        host,
        port=port,
        node=node if endpoint.local else _OTHER,
        ready=endpoint.ready,
        serving=endpoint.serving,
        terminating=endpoint.terminating,
        zone_hints=endpoint.zone_hints,
        node_hints=endpoint.node_hints,
    )


def _addresses(case: Case, used: Iterable[IPSet]) -> frozenset[str]:
    """In the case's own words, HOST:PORT."""
    hosts = {host for addresses in used for host in (*addresses.v4, *addresses.v6)}
    return frozenset(e.address for e in case.endpoints if endpoint_of(e.address)[0] in hosts)


def _text(answers: Answers) -> str:
    return "; ".join(f"{name}: {_value(value)}" for name, value in answers.items())


def _value(value: frozenset[str] | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else ", ".join(sorted(value)) or "none"
