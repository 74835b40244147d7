"""Listing and removing flows in the real kernel. The table of a namespace of its own is filled by netlink."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from kpng.host import netlink
from kpng.host.conntrack import UDP, Conntrack, ConntrackUnavailableError, Flow, Query, socket_address
from kpng.host.conntrack.messages import Attribute, get_flows, new_flow, read_flow
from kpng.host.netlink import NetfilterSocket
from kpng.lab.conntrack import MadeFlow, clients, make_flows
from kpng.lab.netns import Namespace

pytestmark = pytest.mark.netns

T = TypeVar("T")
V4, V6 = socket.AF_INET, socket.AF_INET6
TCP, SCTP = 6, 132
_numbers = itertools.count()

VIP, OTHER_VIP = {V4: "10.96.0.10", V6: "fd00:96::10"}, {V4: "10.96.0.11", V6: "fd00:96::11"}
PODS = {V4: ["10.1.0.1", "10.1.0.2"], V6: ["fd00:1::1", "fd00:1::2"]}
CLIENT = {V4: "198.18.0.1", V6: "2001:db8::1"}
FAMILIES = pytest.mark.parametrize("family", [V4, V6], ids=["v4", "v6"])


class Inside:
    """A thread in a namespace, and a connection made there."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self.conntrack = self.call(Conntrack)

    def call(self, function: Callable[[], T]) -> T:
        return self._executor.submit(function).result()

    def make(self, *flows: MadeFlow) -> None:
        self.call(lambda: make_flows(flows))

    def flows(self, query: Query) -> list[Flow]:
        return self.call(lambda: list(self.conntrack.flows(query)))

    def destinations(self, query: Query) -> set[tuple[int, bytes, bytes]]:
        return {(flow.protocol, flow.destination, flow.reply_source) for flow in self.flows(query)}


@pytest.fixture
def inside() -> Iterator[Inside]:
    with Namespace(f"kpt-ct-{os.getpid()}-{next(_numbers)}") as space, space.executor() as executor:
        found = Inside(executor)
        yield found
        found.conntrack.close()


def table(family: socket.AddressFamily) -> list[MadeFlow]:
    """Two addresses, two ports, two pods, three protocols."""
    ends = itertools.product((VIP, OTHER_VIP), (53, 54), (0, 1), (UDP, TCP, SCTP))
    return [
        MadeFlow((CLIENT[family], 1024 + number), (vip[family], port), (PODS[family][pod], 5353), protocol)
        for number, (vip, port, pod, protocol) in enumerate(ends)
    ]


def seen(flow: MadeFlow) -> tuple[int, bytes, bytes]:
    return flow.protocol, socket_address(*flow.destination), socket_address(*flow.endpoint)


QUERIES: list[tuple[str, Callable[[socket.AddressFamily], Query], Callable[[MadeFlow], bool]]] = [
    ("all", Query, lambda flow: flow.protocol == UDP),
    ("tcp", lambda family: Query(family, TCP), lambda flow: flow.protocol == TCP),
    (
        "port",
        lambda family: Query(family, port=54),
        lambda flow: flow.protocol == UDP and flow.destination[1] == 54,
    ),
    (
        "address",
        lambda family: Query(family, address=socket.inet_pton(family, VIP[family])),
        lambda flow: flow.protocol == UDP and flow.destination[0] in VIP.values(),
    ),
    (
        "address-and-port",
        lambda family: Query(family, address=socket.inet_pton(family, VIP[family]), port=53),
        lambda flow: flow.protocol == UDP and flow.destination in [(vip, 53) for vip in VIP.values()],
    ),
    (
        "answered-by",
        lambda family: Query(family, answered_by=socket_address(PODS[family][1], 5353)),
        lambda flow: flow.protocol == UDP and flow.endpoint[0] in {pods[1] for pods in PODS.values()},
    ),
    (
        "answered-by-another-port",
        lambda family: Query(family, answered_by=socket_address(PODS[family][1], 53)),
        lambda flow: False,
    ),
]


@FAMILIES
@pytest.mark.parametrize(("name", "query", "expected"), QUERIES, ids=[name for name, _, _ in QUERIES])
def test_queries_find_what_they_name(
    inside: Inside,
    family: socket.AddressFamily,
    name: str,
    query: Callable[[socket.AddressFamily], Query],
    expected: Callable[[MadeFlow], bool],
) -> None:
    inside.make(*table(V4), *table(V6))
    wanted = {seen(flow) for flow in table(family) if expected(flow)}
    assert inside.destinations(query(family)) == wanted


def told(inside: Inside, query: Query) -> set[tuple[int, bytes, bytes]]:
    """What the kernel answers, looked through by nobody."""

    def dumped() -> list[bytes]:
        netfilter = NetfilterSocket()
        try:
            return netfilter.dump(get_flows(query))
        finally:
            netfilter.close()

    found = [read_flow(payload) for payload in inside.call(dumped)]
    return {(flow.protocol, flow.destination, flow.reply_source) for flow in found if flow is not None}


@pytest.mark.parametrize(("name", "query", "expected"), QUERIES, ids=[name for name, _, _ in QUERIES])
def test_the_kernel_filters(
    inside: Inside,
    name: str,
    query: Callable[[socket.AddressFamily], Query],
    expected: Callable[[MadeFlow], bool],
) -> None:
    """What is not asked for does not even come up."""
    inside.make(*table(V4), *table(V6))
    assert told(inside, query(V4)) == {seen(flow) for flow in table(V4) if expected(flow)}


def test_the_kernel_filters_ipv6_by_port_at_least(inside: Inside) -> None:
    """Not by address: see `kpng.host.conntrack.messages`."""
    inside.make(*table(V4), *table(V6))
    udp = [flow for flow in table(V6) if flow.protocol == UDP]
    by_address = Query(V6, address=socket.inet_pton(V6, VIP[V6]), port=53)
    assert told(inside, by_address) == {seen(flow) for flow in udp if flow.destination[1] == 53}
    assert told(inside, Query(V6, answered_by=socket_address(PODS[V6][0], 53))) == set()


@FAMILIES
def test_delete_removes_just_these(inside: Inside, family: socket.AddressFamily) -> None:
    inside.make(*table(V4), *table(V6))
    query = Query(family, address=socket.inet_pton(family, VIP[family]), port=53)
    flows = inside.flows(query)
    assert inside.call(lambda: inside.conntrack.delete(flows)) == 2
    assert inside.flows(query) == []
    everything = [len(inside.flows(Query(f, p))) for f in (V4, V6) for p in (UDP, TCP, SCTP)]
    assert sum(everything) == 2 * len(table(V4)) - 2
    assert everything[1:3] == everything[4:6] == [8, 8]


def test_what_is_gone_already_is_no_error(inside: Inside) -> None:
    inside.make(*table(V4))
    flows = inside.flows(Query(V4))
    assert inside.call(lambda: inside.conntrack.delete(flows[:3])) == 3
    assert inside.call(lambda: inside.conntrack.delete(flows)) == len(flows) - 3
    assert inside.call(lambda: inside.conntrack.delete(flows)) == 0
    assert inside.call(lambda: inside.conntrack.delete([])) == 0


def test_a_later_flow_between_the_same_ends_stays(inside: Inside) -> None:
    """The client sent again, and was translated anew, between our look and our delete. On one processor, for there
    the kernel hands out again first what it got back last, which here must be to somebody else."""
    inside.call(lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]))
    old, new = (MadeFlow((CLIENT[V4], 1024), (VIP[V4], 53), (pod, 5353)) for pod in PODS[V4])
    inside.make(old)
    looked_at = inside.flows(Query(V4))
    inside.call(lambda: inside.conntrack.delete(looked_at))
    inside.make(*table(V6), new)
    assert inside.call(lambda: inside.conntrack.delete(looked_at)) == 0
    assert inside.destinations(Query(V4)) == {seen(new)}


def test_flows_of_a_zone(inside: Inside) -> None:
    """Zones keep apart networks with the same addresses; a flow is deleted in its own."""
    ends = [socket_address(*end) for end in ((CLIENT[V4], 1), (VIP[V4], 53), (PODS[V4][0], 5353))]
    plain = new_flow(UDP, (ends[0], ends[1]), (ends[2], ends[0]), 14)
    zone = netlink.attribute(Attribute.ZONE, (7).to_bytes(2, "big"))
    zoned = netlink.HEADER.pack(len(plain) + len(zone), *netlink.HEADER.unpack_from(plain)[1:]) + plain[16:] + zone

    def enter() -> None:
        netfilter = NetfilterSocket()
        assert netfilter.send_all([plain, zoned]) == []
        netfilter.close()

    inside.call(enter)
    both = inside.flows(Query(V4))
    assert len(both) == 2
    in_zone = [flow for flow in both if zone in flow.message]
    assert inside.call(lambda: inside.conntrack.delete(in_zone)) == 1
    [left] = inside.flows(Query(V4))
    assert zone not in left.message


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_deletes_in_many_datagrams(inside: Inside, count: int) -> None:
    inside.make(*(MadeFlow(client, (VIP[V4], 53), (PODS[V4][0], 5353)) for client in clients(count)))
    flows = inside.flows(Query(V4))
    assert len(flows) == count
    assert inside.call(lambda: inside.conntrack.delete(flows)) == count
    assert inside.flows(Query(V4)) == []


def test_an_abandoned_list_does_not_spoil_the_next(inside: Inside) -> None:
    inside.make(*(MadeFlow(client, (VIP[V4], 53), (PODS[V4][0], 5353)) for client in clients(2000)))

    def first() -> Flow:
        listing = inside.conntrack.flows(Query(V4))
        found = next(listing)
        listing.close()  # type: ignore[attr-defined]
        return found

    flow = inside.call(first)
    assert len(inside.flows(Query(V4))) == 2000
    assert inside.call(lambda: inside.conntrack.delete([flow])) == 1
    assert len(inside.flows(Query(V4))) == 1999


def test_namespaces_have_their_own_flows(inside: Inside) -> None:
    inside.make(*table(V4))
    with Namespace(f"kpt-ct-{os.getpid()}-{next(_numbers)}") as other, other.executor() as executor:
        elsewhere = Inside(executor)
        assert elsewhere.flows(Query(V4)) == []
        elsewhere.conntrack.close()


def test_without_the_capability_it_is_unavailable() -> None:
    program = "from kpng.host.conntrack import *; import socket; list(Conntrack().flows(Query(socket.AF_INET)))"
    dropped = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    setpriv = shutil.which("setpriv")
    assert setpriv, "setpriv (util-linux) is part of the base system"
    done = subprocess.run(
        [setpriv, *dropped, sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert last == f"{ConntrackUnavailableError.__module__}.ConntrackUnavailableError: " + (
        "connection tracking needs root (CAP_NET_ADMIN)"
    )
