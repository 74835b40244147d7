"""Objects as bytes: lists and watches that kpng's own reader takes."""

from __future__ import annotations

from itertools import islice

import msgspec
import pytest

from kpng.kube.objects import EndpointSlice, ObjectList, WatchEvent
from kpng.load import Churn, Shape, list_body, watch_line, watch_lines
from kpng.load.bodies import Kind

SHAPE = Shape(services=4, endpoints=3, nodes=2)


@pytest.mark.parametrize(("kind", "count"), [("Service", 4), ("EndpointSlice", 4), ("Node", 2)])
@pytest.mark.parametrize("full", [True, False])
def test_a_list_holds_every_object(kind: Kind, count: int, full: bool) -> None:
    body = list_body(SHAPE, kind, full=full)
    listed = msgspec.json.decode(body, type=ObjectList)
    assert msgspec.json.decode(body)["kind"] == f"{kind}List"
    assert listed.metadata.resource_version == "10000000"
    versions = [msgspec.json.decode(item)["metadata"]["resourceVersion"] for item in listed.items or ()]
    assert versions == [str(1000 + index) for index in range(count)]


def test_what_an_api_server_adds_weighs_something() -> None:
    assert len(list_body(SHAPE, "Node")) > 2 * len(list_body(SHAPE, "Node", full=False))


def test_a_watch_tells_of_each_write() -> None:
    changes = list(islice(Churn(SHAPE, ["scale"]), 10))
    lines = list(watch_lines(changes))
    writes = [write for change in changes for write in change.writes]
    events = [msgspec.json.decode(line, type=WatchEvent) for line in lines]
    names = {"create": "ADDED", "update": "MODIFIED", "delete": "DELETED"}
    assert [event.type for event in events] == [names[write.verb] for write in writes]
    versions = [msgspec.json.decode(event.object)["metadata"]["resourceVersion"] for event in events]
    assert versions == [str(10_000_001 + index) for index in range(len(lines))]
    last = msgspec.json.decode(events[-1].object, type=EndpointSlice)
    assert len(last.endpoints or ()) == len(writes[-1].object["endpoints"])


def test_a_watch_line_is_one_line() -> None:
    assert watch_line(b"ADDED", b'{"a":1}') == b'{"type":"ADDED","object":{"a":1}}\n'
