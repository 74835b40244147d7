"""Services of unusual shape, with real packets: many addresses, ports, families, policies at once."""

from __future__ import annotations

import itertools
import socket
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.model import Endpoint, EndpointPort, IPSet, LocalService, PortMapping, Protocol, Scopes, Service

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
CLIENT = {4: "192.0.2.10", 6: "2001:db8:2::10"}
NODE_INSIDE = {4: "10.1.0.254", 6: "fd00:1::fe"}
PODS = {4: [f"10.1.0.{n}" for n in range(1, 6)], 6: [f"fd00:1::{n}" for n in range(1, 6)]}
BALANCERS = IPSet(("203.0.113.1", "203.0.113.2"), ("2001:db8:99::1", "2001:db8:99::2"))
EXTERNAL = IPSet(("198.51.100.1", "198.51.100.2"), ("2001:db8:98::1",))
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def addresses_of(ips: IPSet, family: int) -> tuple[str, ...]:
    return ips.v4 if family == 4 else ips.v6


def service_with(ports: tuple[PortMapping, ...], **fields: Any) -> Service:
    return Service(namespace="demo", name="web", cluster_ips=IPSet((VIP[4],), (VIP[6],)), ports=ports, **fields)


def pod(number: int, *ports: EndpointPort, **fields: Any) -> Endpoint:
    return Endpoint(addresses=IPSet((PODS[4][number - 1],), (PODS[6][number - 1],)), ports=ports, **fields)


@FAMILIES
def test_every_address_of_a_service_leads_to_it(rig: Any, make: Any, family: int) -> None:
    """Load balancer's addresses, external ones and the node port, all of one service."""
    rig.start().set(make(pods=(2,), load_balancer_ips=BALANCERS, external_ips=EXTERNAL, node_port=30080))
    outside = addresses_of(BALANCERS, family) + addresses_of(EXTERNAL, family)
    for address, port in [(VIP[family], 80), (NODE[family], 30080), *((address, 80) for address in outside)]:
        assert rig.client.reach(address, port)[:2] == (PODS[family][1], 8080), address
        assert rig.node.reach(address, port)[0] == PODS[family][1], address


def test_several_cluster_ips_of_one_family(rig: Any, make: Any) -> None:
    backend = rig.start()
    backend.set(make(pods=(1,), cluster_ips=IPSet(("10.96.0.7", "10.96.0.70"), ())))
    assert rig.client.reach("10.96.0.70", 80)[0] == rig.client.reach("10.96.0.7", 80)[0] == PODS[4][0]
    backend.set(make(pods=(1,), cluster_ips=IPSet(("10.96.0.70",), ())))
    assert rig.client.reach("10.96.0.70", 80)[0] == PODS[4][0]
    with pytest.raises(OSError, match=r"timed out|unreachable"):
        rig.client.reach("10.96.0.7", 80, timeout=0.3)


@FAMILIES
def test_several_ports_each_to_its_own(rig: Any, family: int) -> None:
    """Two named ports; TCP and UDP of one number; each lands where the endpoint has that name."""
    ports = (
        PortMapping(80, name="http", available=3),
        PortMapping(81, name="admin", available=3, node_port=30081),
        PortMapping(53, name="dns", protocol=Protocol.UDP, available=3),
        PortMapping(53, name="dns-tcp", available=3),
    )
    endpoint_ports = (
        EndpointPort("http", 8080),
        EndpointPort("admin", 8081),
        EndpointPort("dns", 8081, Protocol.UDP),
        EndpointPort("dns-tcp", 8080),
    )
    rig.start().set(LocalService(service_with(ports), {"a": pod(1, *endpoint_ports)}))
    expected = [(VIP, 80, "tcp", 8080), (VIP, 81, "tcp", 8081), (NODE, 30081, "tcp", 8081)]
    expected += [(VIP, 53, "udp", 8081), (VIP, 53, "tcp", 8080)]
    for address, port, protocol, target in expected:
        assert rig.client.reach(address[family], port, protocol=protocol)[1] == target, (port, protocol)


def test_one_port_has_endpoints_and_another_has_none(rig: Any) -> None:
    ports = (PortMapping(80, name="http", available=3), PortMapping(81, name="admin", node_port=30081))
    rig.start().set(LocalService(service_with(ports), {"a": pod(1, EndpointPort("http", 8080))}))
    assert rig.client.reach(VIP[4], 80)[0] == PODS[4][0]
    for address, port in ((VIP[4], 81), (NODE[4], 30081)):
        with pytest.raises(ConnectionRefusedError):
            rig.client.reach(address, port, timeout=2)


@pytest.mark.parametrize("has", [4, 6])
def test_dual_stack_with_endpoints_in_one_family(rig: Any, make: Any, has: int) -> None:
    """The other family is refused, not sent elsewhere."""
    endpoints = {
        "a": Endpoint(addresses=IPSet.of([PODS[has][0]]), ports=(EndpointPort("", 8080),)),
    }
    local = make(node_port=30080, available=1 if has == 4 else 2)
    backend = rig.start()
    backend.set(LocalService(local.service, endpoints))
    assert rig.client.reach(VIP[has], 80)[0] == rig.client.reach(NODE[has], 30080)[0] == PODS[has][0]
    other = 10 - has
    for address, port in ((VIP[other], 80), (NODE[other], 30080)):
        with pytest.raises((ConnectionRefusedError, PermissionError)):
            rig.client.reach(address, port, timeout=2)
    backend.set(make(node_port=30080, pods=(2,)))  # the other family's come
    assert rig.client.reach(VIP[other], 80)[0] == PODS[other][1]


@pytest.mark.parametrize("only", [4, 6])
def test_a_service_of_one_family_leaves_the_other_alone(rig: Any, make: Any, only: int) -> None:
    backend = rig.start()
    backend.set(make(pods=(1,), node_port=30080, cluster_ips=IPSet.of([VIP[only]]), external_ips=EXTERNAL))
    other = 10 - only
    assert rig.client.reach(VIP[only], 80)[0] == PODS[only][0]
    with pytest.raises(ConnectionRefusedError):  # nobody listens: the node's own answer
        rig.client.reach(NODE[other], 30080)
    table = rig.nft("list", "table", "ip6" if other == 6 else "ip", "kpng")
    assert "30080" not in table
    assert addresses_of(EXTERNAL, other)[0] not in table


POLICIES = list(itertools.product([False, True], repeat=4))


@pytest.mark.parametrize(("internal_local", "external_local", "here", "elsewhere"), POLICIES)
def test_policies(
    rig: Any, make: Any, internal_local: bool, external_local: bool, here: bool, elsewhere: bool
) -> None:
    """[E12] The table of verdicts: what is chosen, what is dropped, what is refused, whose address is seen."""
    endpoints = {}
    for number, exists, local in ((1, here, True), (2, elsewhere, False)):
        if exists:
            scopes = Scopes(internal=local or not internal_local, external=local or not external_local)
            endpoints[str(number)] = pod(number, EndpointPort("", 8080), local=local, scopes=scopes)
    local = make(
        pods=(),
        available=3 if endpoints else 0,
        node_port=30080,
        external_ips=EXTERNAL,
        internal_traffic_local=internal_local,
        external_traffic_local=external_local,
    )
    rig.start().set(LocalService(local.service, endpoints))
    outside = ((NODE[4], 30080), (EXTERNAL.v4[0], 80))
    for restricted, masqueraded, frontends in (
        (internal_local, False, ((VIP[4], 80),)),
        (external_local, not external_local, outside),
    ):
        usable = {PODS[4][0]} if here else set()
        usable |= {PODS[4][1]} if elsewhere and not restricted else set()
        for address, port in frontends:
            if usable:
                answers = [rig.client.reach(address, port) for _ in range(12)]
                assert {answer[0] for answer in answers} == usable
                assert {answer[2] for answer in answers} == {NODE_INSIDE[4] if masqueraded else CLIENT[4]}
            else:
                expected = TimeoutError if here or elsewhere else ConnectionRefusedError
                with pytest.raises(expected):
                    rig.client.reach(address, port, timeout=0.25)


def test_a_policy_that_changes(rig: Any, make: Any) -> None:
    """The same endpoints, another policy: the source address follows."""
    backend = rig.start()
    for local, seen in ((False, NODE_INSIDE[4]), (True, CLIENT[4]), (False, NODE_INSIDE[4])):
        backend.set(make(pods=(1,), local=(1,), node_port=30080, external_traffic_local=local))
        assert rig.client.reach(NODE[4], 30080)[2] == seen


class TestAffinity:
    def test_over_all_addresses(self, rig: Any, make: Any) -> None:
        """[I1] Whatever address of the service port a client uses, it comes to the same endpoint."""
        rig.start().set(
            make(session_affinity_seconds=60, load_balancer_ips=BALANCERS, external_ips=EXTERNAL, node_port=30080)
        )
        frontends = [(VIP[4], 80), (NODE[4], 30080), *((a, 80) for a in BALANCERS.v4 + EXTERNAL.v4)]
        assert len({rig.client.reach(*frontend)[0] for frontend in frontends * 3}) == 1

    def test_over_all_addresses_after_a_restart(self, rig: Any, make: Any) -> None:
        sticky = make(session_affinity_seconds=60, load_balancer_ips=BALANCERS, node_port=30080)
        first = rig.start()
        first.set(sticky)
        pods = {rig.client.reach(VIP[4], 80)[0]}
        first.stop()
        rig.start(cluster_cidr=("10.1.0.0/16",)).set(sticky, make("other", vip=9))
        for address, port in ((VIP[4], 80), (NODE[4], 30080), (BALANCERS.v4[1], 80)):
            pods.add(rig.client.reach(address, port)[0])
        assert len(pods) == 1

    def test_ports_of_a_service_are_apart(self, rig: Any, make: Any) -> None:
        """A port whose endpoints are others cannot be led astray by where the client was for the first."""
        ports = (PortMapping(80, name="a", available=3), PortMapping(81, name="b", available=3))
        service = replace(service_with(ports), session_affinity_seconds=60)
        endpoints = {"1": pod(1, EndpointPort("a", 8080)), "2": pod(2, EndpointPort("b", 8080))}
        rig.start().set(LocalService(service, endpoints))
        for _ in range(5):
            assert rig.client.reach(VIP[4], 80)[0] == PODS[4][0]
            assert rig.client.reach(VIP[4], 81)[0] == PODS[4][1]

    def test_local_policy_ignores_where_the_client_was_elsewhere(self, rig: Any, make: Any) -> None:
        """[I5] By the cluster IP a client may be anywhere; by the node port it must be here."""
        backend = rig.start()
        backend.set(
            make(
                pods=(1, 2),
                local=(1,),
                external=(1,),
                internal=(2,),
                node_port=30080,
                external_traffic_local=True,
                session_affinity_seconds=60,
            )
        )
        for _ in range(5):
            assert rig.client.reach(VIP[4], 80)[0] == PODS[4][1]
            assert rig.client.reach(NODE[4], 30080)[0] == PODS[4][0]

    def test_udp(self, rig: Any, make: Any) -> None:
        rig.start().set(make(session_affinity_seconds=60, protocol=Protocol.UDP))
        assert len(rig.client.count(20, VIP[4], 80, protocol="udp")) == 1

    def test_another_timeout_keeps_the_clients(self, rig: Any, make: Any) -> None:
        """[I8]"""
        backend = rig.start()
        backend.set(make(session_affinity_seconds=60))
        [pod_before] = rig.client.count(3, VIP[4], 80)
        backend.set(make(session_affinity_seconds=120))
        assert set(rig.client.count(5, VIP[4], 80)) == {pod_before}


class TestFlows:
    """[C3] What is established stays; what is new follows the change."""

    @FAMILIES
    def test_udp(self, rig: Any, make: Any, family: int) -> None:
        backend = rig.start()
        backend.set(make(pods=(1,), protocol=Protocol.UDP))
        domain = socket.AF_INET if family == 4 else socket.AF_INET6
        flow = rig.client.call(lambda: socket.socket(domain, socket.SOCK_DGRAM))
        with flow:
            flow.settimeout(2)
            flow.connect((VIP[family], 80))

            def ask() -> str:
                flow.send(b"?")
                return str(flow.recv(200).decode().split()[0])

            assert ask() == PODS[family][0]
            backend.set(make(pods=(2,), protocol=Protocol.UDP))
            assert ask() == PODS[family][0]
            assert rig.client.reach(VIP[family], 80, protocol="udp")[0] == PODS[family][1]

    def test_tcp_over_replacement_and_cleanup_of_its_service(self, rig: Any, make: Any) -> None:
        backend = rig.start()
        backend.set(make(pods=(1,)))
        listener = rig.pods.call(lambda: socket.create_server((PODS[4][0], 9000)))
        backend.set(make(pods=(1,), target=9000))
        with listener, rig.client.call(lambda: socket.create_connection((VIP[4], 80), 2)) as client:
            server, _ = listener.accept()
            with server:
                for change in (lambda: backend.set(make(pods=(2,))), backend.set, backend.stop):
                    change()
                    client.send(b"still here")
                    assert server.recv(100) == b"still here"


@pytest.mark.parametrize(("offset", "winner"), [(-10, PODS[4][0]), (10, PODS[4][4])])
def test_hook_priority_decides_who_comes_first(rig: Any, make: Any, offset: int, winner: str) -> None:
    """Another's DNAT for the same address at the usual priority: before it ours counts, after it theirs."""
    rig.nft(
        "-f",
        "-",
        stdin=f"""table ip theirs {{
            chain c {{
                type nat hook prerouting priority dstnat
                ip daddr {VIP[4]} tcp dport 80 dnat to {PODS[4][4]}:8080
            }}
        }}""",
    )
    rig.start(hook_priority=offset).set(make(pods=(1,)))
    assert set(rig.client.count(5, VIP[4], 80)) == {winner}


@FAMILIES
def test_every_endpoint_is_used(rig: Any, make: Any, family: int) -> None:
    """More than one service and one class: each index has its endpoint, here told by port and pod."""
    ports = [8080, 8081]
    endpoints = {
        f"{number}-{port}": pod(number, EndpointPort("", port)) for number in range(1, 6) for port in ports
    }
    rig.start().set(LocalService(make().service, endpoints))
    seen = {rig.client.reach(VIP[family], 80)[:2] for _ in range(120)}
    assert seen == {(PODS[family][n], port) for n in range(5) for port in ports}
