"""The data file: read whole, checked whole, before anything is sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from kpng.conformance.flows import Scenario, for_backend, load_scenarios
from kpng.model import UserError

Make = Callable[..., Any]


def test_the_packages_data_is_read_whole() -> None:
    scenarios = load_scenarios()
    assert len(scenarios) == 231
    assert sum(len(scenario.flows) for scenario in scenarios) == 1571
    assert Counter(scenario.mode for scenario in scenarios) == {"nftables": 199, "iptables": 29, "any": 3}
    assert len({scenario.name for scenario in scenarios}) == 231


def test_nothing_of_the_packages_data_is_lost_on_the_way() -> None:
    written = json.loads((files("kpng.conformance") / "data" / "packet_flows.json").read_text())["scenarios"]
    for scenario, given in zip(load_scenarios(), written, strict=True):
        assert [flow.name for flow in scenario.flows] == [flow["name"] for flow in given["flows"]]
        assert list(scenario.services) == given["services"]
        assert list(scenario.endpointslices) == given["endpointslices"]
        for flow, each in zip(scenario.flows, given["flows"], strict=True):
            assert flow.expect.verdict == each["expect"]["verdict"]
            assert list(flow.expect.dnat_to) == each["expect"].get("dnat_to", [])
            assert (flow.expect_iptables is None) == ("expect_iptables" not in each)


@pytest.mark.parametrize(
    ("backend", "modes", "flows"),
    [
        ("nft", {"nftables", "any"}, 1387),
        ("ipvs", {"nftables", "any"}, 1387),
        ("iptables", {"nftables", "iptables", "any"}, 1571),
    ],
)
def test_a_backend_must_pass_its_own_mode(backend: str, modes: set[str], flows: int) -> None:
    chosen = for_backend(load_scenarios(), backend)
    assert {scenario.mode for scenario in chosen} == modes
    assert sum(len(scenario.flows) for scenario in chosen) == flows


@pytest.mark.parametrize(
    ("backend", "verdicts"), [("nft", ["dnat", "dnat"]), ("ipvs", ["dnat", "dnat"]), ("iptables", ["drop", "dnat"])]
)
def test_only_iptables_has_expectations_of_its_own(
    make_scenario: Make, flow_json: Make, backend: str, verdicts: list[str]
) -> None:
    given = make_scenario(flows=[flow_json(expect_iptables={"verdict": "drop"}), flow_json()])
    (scenario,) = for_backend([given], backend)
    assert [flow.expect.verdict for flow in scenario.flows] == verdicts


def test_masquerade_may_depend_on_the_endpoint(make_flow: Make) -> None:
    expect = {
        "verdict": "dnat",
        "dnat_to": ["10.1.0.1:8080", "10.1.0.2:8080"],
        "masquerade": None,
        "masquerade_per_endpoint": {"10.1.0.1:8080": True, "10.1.0.2:8080": False},
    }
    expected = make_flow(expect=expect).expect
    assert expected.masquerades("10.1.0.1:8080")
    assert not expected.masquerades("10.1.0.2:8080")


@pytest.mark.parametrize(
    ("address", "owns"),
    [("192.0.2.10", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("192.0.2.11", False)],
)
def test_processes_of_the_node_have_its_addresses(make_scenario: Make, address: str, owns: bool) -> None:
    assert make_scenario().node.owns(address) is owns


def test_devices_are_those_that_flows_name(make_scenario: Make, flow_json: Make) -> None:
    flows = [flow_json(), flow_json(in_iface="cni0"), flow_json(in_iface="veth1"), flow_json(in_iface="cni0")]
    assert make_scenario(flows=flows).devices == {"cni0", "veth1"}


def load_text(folder: Path, content: str | bytes) -> tuple[Scenario, ...]:
    path = folder / "flows.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_scenarios(str(path))


def test_a_file_of_ones_own(tmp_path: Path, scenario_json: Make) -> None:
    (scenario,) = load_text(tmp_path, json.dumps({"meta": {"mine": 1}, "scenarios": [scenario_json()]}))
    assert (scenario.name, scenario.flows[0].dst_port) == ("a service", 80)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"kind: Service", "not JSON"),
        (b"[]", "not of the expected form: Expected `object`, got `array`"),
        (b"{}", "missing required field `scenarios`"),
        (b'{"scenarios": 3}', "Expected `array`, got `int` - at `$.scenarios`"),
        (b'{"scenarios": ["x"]}', "at `$.scenarios[0]`"),
        (b'{"scenarios": ["\xff"]}', "not "),
    ],
)
def test_a_file_of_another_form_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "flows.json"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_FLOWS: list[tuple[dict[str, Any], str]] = [
    ({"proto": "gre"}, "proto"),
    ({"dst_port": 0}, "dst_port"),
    ({"dst_port": 65536}, "dst_port"),
    ({"dst_port": "80"}, "dst_port"),
    ({"src_ip": "10.1.0"}, "10.1.0"),
    ({"src_ip": "010.1.0.1"}, "010.1.0.1"),
    ({"dst_ip": "fd00::1"}, "not of one family"),
    ({"src_ip": "FD00::1", "dst_ip": "fd00::2"}, "is written fd00::1"),
    ({"name": ""}, "name"),
    ({"in_iface": "a name that is too long"}, "in_iface"),
    ({"in_iface": "../x"}, "in_iface"),
    ({"expect": {"verdict": "accept"}}, "verdict"),
    ({"expect": {"verdict": "dnat"}}, "go together"),
    ({"expect": {"verdict": "drop", "dnat_to": ["10.1.0.1:1"]}}, "go together"),
    ({"expect": {"verdict": "dnat", "dnat_to": ["10.1.0.1"]}}, "10.1.0.1"),
    ({"expect": {"verdict": "dnat", "dnat_to": ["fd00::1:80"]}}, "HOST:PORT"),
    ({"precondition": {"client_last_sent_to": "nowhere"}}, "nowhere"),
    ({"precondition": {}}, "client_last_sent_to"),
]


@pytest.mark.parametrize(("fields", "said"), BAD_FLOWS, ids=[str(fields)[:60] for fields, _ in BAD_FLOWS])
def test_a_bad_flow_is_named(
    tmp_path: Path, scenario_json: Make, flow_json: Make, fields: dict[str, Any], said: str
) -> None:
    flows = [flow_json(), flow_json(**fields)]
    with pytest.raises(UserError) as caught:
        load_text(tmp_path, json.dumps({"scenarios": [scenario_json(flows=flows)]}))
    assert said in str(caught.value)
    assert "$.scenarios[0].flows[1]" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"local_ips": ["192.0.2.10", "here"]}, "'here'"),
        ({"primary_ip": "2001:DB8::1"}, "is written 2001:db8::1"),
        ({"detect_local": {"mode": "Magic"}}, "detect_local.mode"),
        ({"detect_local": None}, "detect_local"),
        ({"masquerade_all": "yes"}, "masquerade_all"),
        ({"name": ""}, "node.name"),
    ],
)
def test_a_bad_node_is_named(
    tmp_path: Path, scenario_json: Make, node_json: Make, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_text(tmp_path, json.dumps({"scenarios": [scenario_json(node=node_json(**fields))]}))
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"flows\.json: No such file or directory$"):
        load_scenarios(str(tmp_path / "flows.json"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Is a directory$"):
        load_scenarios(str(tmp_path))
