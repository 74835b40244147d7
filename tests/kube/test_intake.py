"""From an event's bytes to the store."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from kpng.kube.convert import Converter, Filters
from kpng.kube.intake import node_intake, service_cidr_intake, service_intake, slice_intake
from kpng.model import ProblemLog, ServiceKey
from kpng.store import Kind, Store

WEB = ServiceKey("demo", "web")


def raw(data: dict[str, Any]) -> Raw:
    return Raw(json.dumps(data).encode())


def service_object(name: str = "web", **spec: Any) -> Raw:
    spec = {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]} | spec
    return raw({"metadata": {"namespace": "demo", "name": name}, "spec": spec})


def slice_object(service: str = "web", address: str = "10.1.0.5", **fields: Any) -> Raw:
    labels = {"kubernetes.io/service-name": service}
    body = {"addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}]}
    return raw({"metadata": {"namespace": "demo", "name": "s1", "labels": labels}} | body | fields)


class House:
    """A store with all the intakes."""

    def __init__(self) -> None:
        self.store = Store()
        self.problems = ProblemLog()
        converter = Converter(Filters(), "http://server")
        self.services = service_intake(self.store, converter, self.problems)
        self.slices = slice_intake(self.store, converter, self.problems)
        self.nodes = node_intake(self.store, converter, self.problems)
        self.service_cidrs = service_cidr_intake(self.store, converter, self.problems)

    def addresses(self, name: str = "web") -> list[str]:
        record = self.store.snapshot.services.get(ServiceKey("demo", name))
        return [a for _, endpoint in record.endpoints() for a in endpoint.addresses.all()] if record else []


@pytest.fixture
def house() -> House:
    return House()


def test_nothing_reaches_the_store_before_the_commit(house: House) -> None:
    house.services.set(service_object())
    assert house.store.snapshot.revision == 0
    house.services.commit(replace=True)
    assert WEB in house.store.snapshot.services
    assert house.store.snapshot.synced == {Kind.SERVICES}


def test_the_kinds_become_synced_one_by_one(house: House) -> None:
    for intake, synced in ((house.services, 1), (house.slices, 2), (house.nodes, 3), (house.service_cidrs, 4)):
        intake.commit(replace=True)
        assert len(house.store.snapshot.synced) == synced
    assert house.store.snapshot.complete


def test_a_replacement_deletes_only_its_own_kind(house: House) -> None:
    house.services.set(service_object())
    house.services.commit(replace=True)
    house.slices.set(slice_object())
    house.slices.commit(replace=True)
    house.nodes.set(raw({"metadata": {"name": "n1"}}))
    house.nodes.commit(replace=True)
    house.slices.commit(replace=True)
    assert house.addresses() == []
    assert WEB in house.store.snapshot.services
    assert "n1" in house.store.snapshot.nodes


def test_many_events_are_one_revision(house: House) -> None:
    for number in range(20):
        house.services.set(service_object(f"s{number}"))
    house.services.commit(replace=False)
    assert house.store.snapshot.revision == 1
    assert len(house.store.snapshot.services) == 20


def test_an_event_that_changes_nothing_for_us_is_no_revision(house: House) -> None:
    house.services.set(service_object())
    house.services.commit(replace=True)
    house.services.set(service_object(selector={"app": "other"}))
    house.services.commit(replace=False)
    assert house.store.snapshot.revision == 1


def test_deletes(house: House) -> None:
    house.services.set(service_object())
    house.slices.set(slice_object())
    house.nodes.set(raw({"metadata": {"name": "n1"}}))
    for intake in (house.services, house.slices, house.nodes):
        intake.commit(replace=True)
    house.services.delete(service_object())
    house.slices.delete(slice_object())
    house.nodes.delete(raw({"metadata": {"name": "n1"}}))
    for intake in (house.services, house.slices, house.nodes):
        intake.commit(replace=False)
    assert not house.store.snapshot.services
    assert not house.store.snapshot.nodes


def test_a_delete_of_what_is_not_there(house: House) -> None:
    house.services.delete(service_object("never"))
    house.services.commit(replace=False)
    assert house.store.snapshot.revision == 0


def test_the_last_word_in_a_batch_counts(house: House) -> None:
    house.services.set(service_object())
    house.services.delete(service_object())
    house.services.commit(replace=False)
    assert not house.store.snapshot.services
    house.services.delete(service_object())
    house.services.set(service_object())
    house.services.commit(replace=False)
    assert WEB in house.store.snapshot.services


def test_a_slice_moves_when_its_label_does(house: House) -> None:
    house.slices.set(slice_object("web"))
    house.slices.commit(replace=True)
    house.slices.set(slice_object("shop"))
    house.slices.commit(replace=False)
    assert (house.addresses("web"), house.addresses("shop")) == ([], ["10.1.0.5"])


def test_a_slice_that_loses_its_label_is_gone(house: House) -> None:
    house.slices.set(slice_object())
    house.slices.commit(replace=True)
    house.slices.set(raw({"metadata": {"namespace": "demo", "name": "s1"}, "addressType": "IPv4"}))
    house.slices.commit(replace=False)
    assert house.addresses() == []
    assert len(house.problems) == 1


def test_a_service_that_becomes_an_external_name_is_gone(house: House) -> None:
    house.services.set(service_object())
    house.services.commit(replace=True)
    house.services.set(service_object(type="ExternalName"))
    house.services.commit(replace=False)
    assert not house.store.snapshot.services


def test_a_discarded_batch_leaves_no_trace(house: House) -> None:
    house.services.set(service_object())
    house.services.set(service_object("bad", clusterIP="x"))
    house.services.discard()
    house.services.commit(replace=False)
    assert house.store.snapshot.revision == 0
    assert len(house.problems) == 0


# -- problems --------------------------------------------------------------------------------------


def test_a_problem_names_server_object_and_field_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        house.slices.set(slice_object(address="169.254.169.254"))
        house.slices.commit(replace=False)
    assert [record.getMessage() for record in caplog.records] == [
        "http://server: EndpointSlice demo/s1: endpoints[0].addresses[0]: "
        "169.254.169.254 is a link-local address, which an endpoint may not have"
    ]
    assert house.problems.total == 1


def test_a_mended_object_is_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house.slices.set(slice_object(address="127.0.0.1"))
    house.slices.commit(replace=True)
    house.slices.set(slice_object(address="10.1.0.5"))
    house.slices.commit(replace=False)
    assert len(house.problems) == 0
    name, _, line = caplog.record_tuples[-1]
    assert name == "kpng.problems"
    assert line.startswith(
        "mended or gone: http://server: EndpointSlice demo/s1: endpoints[0].addresses[0]: 127.0.0.1"
    )


@pytest.mark.parametrize("how", ["delete", "relist"])
def test_problems_go_with_their_object(house: House, how: str) -> None:
    house.services.set(service_object(ports=[{"port": 70000}]))
    house.services.commit(replace=True)
    assert len(house.problems) == 1
    if how == "delete":
        house.services.delete(service_object())
    house.services.commit(replace=how == "relist")
    assert len(house.problems) == 0


def test_problems_of_one_kind_do_not_touch_those_of_another(house: House) -> None:
    house.services.set(service_object(ports=[{"port": 70000}]))
    house.services.commit(replace=True)
    house.slices.commit(replace=True)
    assert len(house.problems) == 1


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"ports": [{"port": "http"}]}, "spec.ports[0].port: expected int, got str"),
        ({"ports": {"port": 1}}, "spec.ports: expected array, got object"),
        ({"externalIPs": [4]}, "spec.externalIPs[0]: expected str, got int"),
    ],
)
def test_an_object_of_the_wrong_shape_spoils_only_itself(house: House, spec: dict[str, Any], line: str) -> None:
    house.services.set(service_object())
    house.services.set(service_object("odd", **spec))
    house.services.commit(replace=True)
    assert list(house.store.snapshot.services) == [WEB]
    assert [str(problem) for problem in house.problems.current] == [f"http://server: Service demo/odd: {line}"]


def test_an_object_without_usable_metadata(house: House) -> None:
    house.nodes.set(raw({"metadata": {"name": 7}}))
    house.nodes.commit(replace=True)
    (problem,) = house.problems.current
    assert str(problem) == "http://server: Node ?: metadata.name: expected str, got int"


WORDS = [
    "metadata",
    "spec",
    "status",
    "ports",
    "port",
    "name",
    "namespace",
    "clusterIP",
    "clusterIPs",
    "labels",
    "endpoints",
    "addresses",
    "addressType",
    "IPv4",
    "10.0.0.1",
    "kubernetes.io/service-name",
    "None",
]
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=15,
)


@given(st.lists(st.dictionaries(st.sampled_from(WORDS), anything, max_size=5), max_size=4))
def test_any_object_is_taken_or_told(objects: list[dict[str, Any]]) -> None:
    house = House()
    for intake in (house.services, house.slices, house.nodes):
        for thing in objects:
            intake.set(raw(thing))
        intake.commit(replace=True)
        intake.commit(replace=True)
    assert not house.store.snapshot.services
    assert len(house.problems) == 0


@pytest.mark.parametrize(
    "body", [b'{"metadata": {"name": "a"}, "spec": {"clusterIP": "\\ud800"}}', b'{"x":' * 5000 + b"1" + b"}" * 5000]
)
def test_an_object_that_is_no_proper_json(house: House, body: bytes) -> None:
    house.services.set(Raw(body))
    house.services.commit(replace=True)
    assert len(house.problems) == 1


def test_service_cidrs_come_and_go(house: House) -> None:
    house.service_cidrs.set(raw({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.96.0.1/16", "fd00:96::/108"]}}))
    house.service_cidrs.set(raw({"metadata": {"name": "b"}, "spec": {"cidrs": ["10.97.0.0/16", "10.98/16"]}}))
    house.service_cidrs.commit(replace=True)
    cidrs = house.store.snapshot.service_cidrs
    assert dict(cidrs) == {"a": ("10.96.0.0/16", "fd00:96::/108"), "b": ("10.97.0.0/16",)}
    assert [str(problem) for problem in house.problems.current] == [
        "http://server: ServiceCIDR b: spec.cidrs[1]: '10.98/16' is not a CIDR"
    ]
    house.service_cidrs.delete(raw({"metadata": {"name": "b"}}))
    house.service_cidrs.commit(replace=False)
    assert list(house.store.snapshot.service_cidrs) == ["a"]
    assert len(house.problems) == 0
