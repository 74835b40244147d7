"""From a scenario to manifests that kpng's own file source reads, and to a backend's options."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import pytest

from kpng.backends import Backend
from kpng.backends.nft import NftBackend
from kpng.conformance.arguments import arguments, construct
from kpng.conformance.flows import Object, load_scenarios
from kpng.conformance.manifests import manifests, manifests_with_only
from kpng.kube.convert import Filters
from kpng.model import ChangeSet, ServiceKey, UserError
from kpng.sources.manifests import Content, read_content

Make = Callable[..., Any]


def kinds(content: Object) -> list[str]:
    return [item["kind"] for item in content["items"]]


def item(content: Object, kind: str) -> Object:
    (found,) = [each for each in content["items"] if each["kind"] == kind]
    return dict(found)


def read(content: Object) -> Content:
    return read_content(json.dumps(content).encode(), "scenario", Filters())


def test_a_scenario_is_a_cluster(make_scenario: Make) -> None:
    content = manifests(make_scenario(node={"service_cidrs": ["10.96.0.0/16"]}))
    assert kinds(content) == ["Node", "ServiceCIDR", "Service", "EndpointSlice"]
    assert item(content, "ServiceCIDR")["spec"] == {"cidrs": ["10.96.0.0/16"]}
    assert item(content, "Node")["status"] == {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]}


def test_without_service_cidrs_there_is_no_object_of_them(make_scenario: Make) -> None:
    assert kinds(manifests(make_scenario())) == ["Node", "Service", "EndpointSlice"]


@pytest.mark.parametrize(
    ("zone", "labels"),
    [
        (None, {"kubernetes.io/hostname": "node-a"}),
        ("", {"kubernetes.io/hostname": "node-a"}),
        ("zone-b", {"kubernetes.io/hostname": "node-a", "topology.kubernetes.io/zone": "zone-b"}),
    ],
)
def test_the_zone_is_a_label(make_scenario: Make, zone: str | None, labels: Object) -> None:
    assert item(manifests(make_scenario(node={"zone": zone})), "Node")["metadata"]["labels"] == labels


def test_pod_cidrs_are_the_nodes_where_they_are_to_be_detected(make_scenario: Make) -> None:
    detect = {"mode": "NodeCIDR", "value": "10.1.0.0/24"}
    spec = item(manifests(make_scenario(node={"detect_local": detect})), "Node")["spec"]
    assert spec == {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]}
    assert item(manifests(make_scenario()), "Node")["spec"] == {}


def test_objects_come_as_they_are_given(make_scenario: Make) -> None:
    scenario = make_scenario()
    content = manifests(scenario)
    assert item(content, "Service") == {"apiVersion": "v1", "kind": "Service", **scenario.services[0]}
    slice_ = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **scenario.endpointslices[0]}
    assert item(content, "EndpointSlice") == slice_


def test_the_file_source_reads_it(make_scenario: Make) -> None:
    content = read(manifests(make_scenario(node={"zone": "zone-a"})))
    assert content.problems == []
    assert list(content.state.services) == [ServiceKey("demo", "web")]
    assert content.state.nodes["node-a"].zone == "zone-a"
    (source,) = content.state.sources.values()
    assert [endpoint.addresses.v4 for endpoint in source.endpoints] == [("10.1.0.1",)]


@pytest.mark.parametrize("host", ["10.1.0.7", "fd00:1::7"])
def test_an_endpoint_may_be_the_only_one(make_scenario: Make, host: str) -> None:
    endpoint = f"[{host}]:9000" if ":" in host else f"{host}:9000"
    content = read(manifests_with_only(make_scenario(), endpoint))
    assert content.problems == []
    (source,) = content.state.sources.values()
    (only,) = source.endpoints
    assert source.service == ServiceKey("demo", "web")
    assert [*only.addresses.v4, *only.addresses.v6] == [host]
    assert [(port.name, port.port) for port in only.ports] == [("http", 9000)]
    assert only.node == "another-node"


def test_the_only_endpoint_stays_on_its_node(make_scenario: Make) -> None:
    (source,) = read(manifests_with_only(make_scenario(), "10.1.0.1:8080")).state.sources.values()
    assert [endpoint.node for endpoint in source.endpoints] == ["node-a"]


def test_every_scenario_of_the_package_is_readable() -> None:
    """Bad objects are in some on purpose, but each holds its Node and no document is without a kind."""
    for scenario in load_scenarios():
        content = read(manifests(scenario))
        assert scenario.node.name in content.state.nodes
        assert not [problem for problem in content.problems if problem.subject.startswith("document")]


# -- options -----------------------------------------------------------------------------------------


def option(*names: str, **fields: Any) -> click.Option:
    return click.Option([*names], **fields)


class Able(Backend):
    """Has every option that a scenario may want."""

    options = (
        option("--detect-local-mode"),
        option("--cluster-cidr", multiple=True),
        option("--pod-bridge-interface"),
        option("--pod-interface-name-prefix"),
        option("--masquerade-all", is_flag=True),
        option("--nodeport-addresses"),
    )

    def __init__(self, **values: Any) -> None:
        self.values = values

    async def apply(self, changes: ChangeSet) -> None: ...


class Plain(Able):
    """Has none."""

    options = ()


class Needy(Able):
    options = (click.Argument(["program"]),)


def detect(mode: str, value: str = "") -> Object:
    return {"detect_local": {"mode": mode, "value": value}}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({}, ["--cluster-cidr", "10.1.0.0/16"]),
        (detect("none"), []),
        (detect("NodeCIDR", "10.1.0.0/24"), ["--detect-local-mode", "NodeCIDR"]),
        (
            detect("BridgeInterface", "cni0"),
            ["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0"],
        ),
        (
            detect("InterfaceNamePrefix", "veth"),
            ["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "veth"],
        ),
        (detect("none") | {"masquerade_all": True}, ["--masquerade-all"]),
        (
            detect("none") | {"nodeport_addresses": ["192.0.2.0/24", "fd00::/8"]},
            ["--nodeport-addresses", "192.0.2.0/24,fd00::/8"],
        ),
    ],
)
def test_the_nodes_setup_in_options(make_scenario: Make, node: Object, words: list[str]) -> None:
    facts = make_scenario(node=node).node
    assert arguments(facts, Able) == words
    assert arguments(facts, Plain) == []


def test_options_go_the_way_of_the_command_line(make_scenario: Make) -> None:
    facts = make_scenario(node={"masquerade_all": True}).node
    backend = construct(Able, arguments(facts, Able))
    assert isinstance(backend, Able)
    assert backend.values["cluster_cidr"] == ("10.1.0.0/16",)
    assert backend.values["masquerade_all"] is True


def test_the_nft_backend_takes_every_scenarios_options() -> None:
    made = {tuple(arguments(scenario.node, NftBackend)) for scenario in load_scenarios()}
    assert len(made) > 5
    for words in made:
        assert isinstance(construct(NftBackend, list(words)), NftBackend)


def test_a_backend_that_wants_more_is_the_users_business() -> None:
    with pytest.raises(UserError, match=r"cannot be started: Missing argument 'PROGRAM'\.$"):
        construct(Needy, [])
