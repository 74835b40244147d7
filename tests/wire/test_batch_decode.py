"""Batches: what the server makes of changes comes back as it was, and what is no batch is refused."""

from __future__ import annotations

import zlib

import msgspec
import pytest

from kpng.model import Endpoint, EndpointPort, LocalService, Scopes, ServiceChange
from kpng.testing import endpoint, key, local_service, service
from kpng.wire import batch_decode
from kpng.wire.batch import ServiceDelta, encode_deltas, services_batches
from kpng.wire.batch_decode import BatchError, decode_batch, decode_services
from kpng.wire.grpc import MessageReader
from kpng.wire.proto import localv1_pb2 as localv1

WEB = key("demo/web")


def through_the_wire(*changes: ServiceChange) -> list[ServiceDelta]:
    items = [item for change in changes for item in encode_deltas(WEB, change)]
    messages = MessageReader().feed(services_batches(items))
    return [delta for message in messages for delta in decode_services(decode_batch(message))]


def services(data: bytes, compression: int = 0) -> localv1.Batch:
    return localv1.Batch(Services=data, Compression=localv1.Compression.ValueType(compression))


FULL = local_service(
    service(
        "demo/web", "10.96.0.1", "fd00::1", ports="http=80:8080 53/UDP@30053", type="LoadBalancer",
        source_ranges=("10.0.0.0/8",), session_affinity_seconds=60, labels={"app": "web"}, headless=True,
        internal_traffic_local=True, external_traffic_local=True, health_check_node_port=31000,
    ),
    a=endpoint("10.1.0.1", "fd01::1", port="http=8080 dns=53/UDP", local=True, hostname="web-0"),
    b=Endpoint(addresses=endpoint("10.1.0.2").addresses, scopes=Scopes(False, False, True), terminating=True),
)  # fmt: skip
PLAIN = local_service(service("demo/web", "10.96.0.1"), a=endpoint("10.1.0.1"), c=endpoint("10.1.0.3"))


@pytest.mark.parametrize("new", [FULL, PLAIN], ids=["every field", "mostly defaults"])
def test_a_new_service_comes_as_it_was(new: LocalService) -> None:
    (delta,) = through_the_wire(ServiceChange(None, new))
    assert (delta.key, delta.service, delta.endpoints, delta.gone) == (WEB, new.service, new.endpoints, False)


def test_a_difference_is_only_that() -> None:
    (delta,) = through_the_wire(ServiceChange(PLAIN, FULL))
    assert delta.service == FULL.service
    assert delta.endpoints == {**FULL.endpoints, "c": None}
    (delta,) = through_the_wire(ServiceChange(FULL, LocalService(FULL.service, {"a": FULL.endpoints["a"]})))
    assert (delta.service, delta.endpoints, delta.gone) == (None, {"b": None}, False)


def test_a_service_that_is_gone() -> None:
    (delta,) = through_the_wire(ServiceChange(FULL, None))
    assert (delta.key, delta.service, delta.endpoints, delta.gone) == (WEB, None, {}, True)


def test_many_endpoints_take_several_deltas_and_batches() -> None:
    big = LocalService(PLAIN.service, {f"pod-{n:05}": endpoint(f"10.1.{n // 250}.{n % 250}") for n in range(9000)})
    deltas = through_the_wire(ServiceChange(None, big))
    assert len(deltas) == 3
    assert {name: each for delta in deltas for name, each in delta.endpoints.items()} == big.endpoints
    assert all(delta.service == big.service for delta in deltas)


def test_equal_ports_are_one_object_and_different_ones_are_not() -> None:
    ports = (EndpointPort("http", 8080),)
    pods = {f"pod-{n}": endpoint(f"10.1.0.{n}", port="http=8080") for n in range(4)}
    pods |= {"odd": endpoint("10.1.1.1", port="http=9"), "none": endpoint("10.1.1.2", port=0)}
    (delta,) = through_the_wire(ServiceChange(None, LocalService(PLAIN.service, pods)))
    same = [each.ports for name, each in delta.endpoints.items() if each and name.startswith("pod")]
    assert same == [ports] * 4
    assert len({id(each) for each in same}) == 1
    assert delta.endpoints == pods


def test_a_batch_without_services_has_none() -> None:
    assert decode_services(localv1.Batch(Reset=True)) == []


def test_fields_yet_to_be_invented_are_passed_over() -> None:
    rows = [{"namespace": "demo", "name": "web", "mood": "fine", "endpoints": {"a": {"addresses": {}, "speed": 9}}}]
    (delta,) = decode_services(services(msgspec.msgpack.encode(rows)))
    assert list(delta.endpoints) == ["a"]


GOOD = msgspec.msgpack.encode([{"namespace": "demo", "name": "web"}])

NOT_SERVICES = [
    (b"\xc1", 0, "cannot be read"),
    (GOOD[:-1], 0, "cannot be read"),
    (GOOD + b"\0", 0, "cannot be read"),
    (msgspec.msgpack.encode([{"namespace": "demo"}]), 0, "name"),
    (msgspec.msgpack.encode([{"namespace": 5, "name": "web"}]), 0, "namespace"),
    (msgspec.msgpack.encode({"namespace": "demo"}), 0, "cannot be read"),
    (b"\x91" * 2000 + b"\x90", 0, "cannot be read"),
    (GOOD, 1, "decompressed"),
    (zlib.compress(GOOD)[:-1], 1, "cut off"),
    (GOOD, 7, "compression"),
]


@pytest.mark.parametrize(("data", "compression", "reason"), NOT_SERVICES)
def test_what_cannot_be_read_is_refused_in_one_line(data: bytes, compression: int, reason: str) -> None:
    with pytest.raises(BatchError, match=reason) as raised:
        decode_services(services(data, compression))
    assert "\n" not in str(raised.value)


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(BatchError, match=r"no localv1\.Batch"):
        decode_batch(b"\xff\xff")


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 MB that would be 1 GB, compressed: nobody gets to see more than the limit."""
    bomb = zlib.compress(bytes(64 << 20), 9)
    assert len(bomb) < 1 << 17
    seen: list[int] = []

    class Spy:
        def decode(self, data: bytes) -> list[ServiceDelta]:
            seen.append(len(data))
            return []

    monkeypatch.setattr(batch_decode, "_decoder", Spy())
    with pytest.raises(BatchError, match=f"more than {batch_decode.MAX_BYTES} bytes"):
        decode_services(services(bomb, 1))
    assert seen == []
    just_right = zlib.compress(bytes(batch_decode.MAX_BYTES))
    decode_services(services(just_right, 1))
    assert seen == [batch_decode.MAX_BYTES]
