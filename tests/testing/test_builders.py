from __future__ import annotations

import asyncio

import pytest

from kpng.model import ChangeSet, EndpointPort, Family, IPSet, Protocol, Scopes
from kpng.testing import (
    RecordingBackend,
    change_set,
    endpoint,
    endpoint_info,
    full_state,
    key,
    local_service,
    service,
)


def test_a_service_in_a_line() -> None:
    made = service("demo/web", "10.96.0.10", "fd00::1", ports="http=80:8080@30080 53/UDP", headless=True)
    assert (made.namespace, made.name) == key("demo/web") == made.key
    assert made.cluster_ips == IPSet(v4=("10.96.0.10",), v6=("fd00::1",))
    assert [(p.name, p.port, p.protocol) for p in made.ports] == [
        ("http", 80, Protocol.TCP),
        ("", 53, Protocol.UDP),
    ]
    assert {p.available for p in made.ports} == {Family.IPV4.bit | Family.IPV6.bit}
    assert made.headless


@pytest.mark.parametrize(
    ("port", "ports"),
    [
        (8080, (EndpointPort("", 8080),)),
        (0, ()),
        ("http=8080 dns=53/UDP", (EndpointPort("http", 8080), EndpointPort("dns", 53, Protocol.UDP))),
        ({"http": 8080}, (EndpointPort("http", 8080),)),
    ],
)
def test_an_endpoint_in_a_line(port: int | str | dict[str, int], ports: tuple[EndpointPort, ...]) -> None:
    assert endpoint("10.1.0.1", port=port).ports == ports
    assert endpoint_info("10.1.0.1", port=port, node="n1").ports == ports


def test_an_endpoints_scopes() -> None:
    assert endpoint("10.1.0.1", internal=False, local=True).scopes == Scopes(False, True)


def test_endpoints_have_keys() -> None:
    one, two = endpoint("10.1.0.1"), endpoint("10.1.0.2")
    assert local_service(service("demo/web"), one, two, pod=one).endpoints == {"0": one, "1": two, "pod": one}


def test_change_sets_out_of_states() -> None:
    web, dns = local_service(service("demo/web")), local_service(service("demo/dns"))
    assert full_state(web).full
    changes = change_set([web], [dns])
    assert not changes.full
    assert changes.changes[key("demo/web")].new is None
    assert changes.changes[key("demo/dns")].old is None
    assert change_set([web], [local_service(service("demo/web"))]) == ChangeSet({})


async def test_the_recording_backend_adds_up_what_it_was_given() -> None:
    web, dns = local_service(service("demo/web")), local_service(service("demo/dns"))
    backend = RecordingBackend([OSError("busy")])
    waiting = asyncio.create_task(backend.until_applied(2))
    with pytest.raises(OSError, match="busy"):
        await backend.apply(full_state(web))
    assert backend.services == {}
    await backend.apply(full_state(web))
    await backend.apply(change_set([web], [dns]))
    await asyncio.wait_for(waiting, 1)
    assert backend.services == {key("demo/dns"): dns}
    assert (len(backend.asked), len(backend.applied)) == (3, 2)
    await backend.apply(full_state())
    assert backend.services == {}
