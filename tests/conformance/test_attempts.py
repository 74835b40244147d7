"""What became of an attempt, told from what was found."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kpng.conformance.attempts import DROP, REJECT, Attempt, Evidence, Seen, see
from kpng.conformance.endpoints import canonical, endpoint_of, endpoint_text
from kpng.conformance.parsing import Departure, Found, Refusal, Reset
from kpng.conformance.tracking import Direction

Make = Callable[..., Any]

CLIENT, PORT, TOKEN = "10.1.0.9", 40000, 7
SERVICE, POD, NODE = ("10.96.0.1", 80), ("10.1.0.1", 8080), "192.0.2.10"
SELF = (CLIENT, PORT)


def left(source: tuple[str, int] = SELF, target: tuple[str, int] = POD) -> Departure:
    return Departure(TOKEN, source, target)


def tracked(source: tuple[str, int], target: tuple[str, int] = SELF) -> Direction:
    """Answers come from ``source`` and go to ``target``."""
    return Direction("tcp", source, target)


def evidence(*packets: Found, reply: Direction | None = None, delivered: frozenset[int] = frozenset()) -> Evidence:
    asked = Direction("tcp", SELF, SERVICE)
    by_token: dict[int, list[Found]] = {}
    for packet in packets:
        by_token.setdefault(packet.token, []).append(packet)
    return Evidence(by_token, {asked: reply}.get, delivered)


FROM_THE_WIRE: list[tuple[str, Evidence, Seen]] = [
    ("nothing", evidence(), DROP),
    ("sent on to a pod", evidence(left()), Seen("dnat", "10.1.0.1:8080")),
    ("from the node's address", evidence(left((NODE, 555))), Seen("dnat", "10.1.0.1:8080", True)),
    ("from its own address and another port", evidence(left((CLIENT, 1))), Seen("dnat", "10.1.0.1:8080", True)),
    ("sent on as it was", evidence(left(target=SERVICE)), Seen("none")),
    ("only masqueraded", evidence(left((NODE, PORT), SERVICE)), Seen("none", masquerade=True)),
    ("to another port", evidence(left(target=("10.96.0.1", 81))), Seen("dnat", "10.96.0.1:81")),
    ("somebody else's packet", evidence(Departure(TOKEN + 1, SELF, POD)), DROP),
    ("delivered on the node", evidence(reply=tracked((NODE, 6443))), Seen("dnat", "192.0.2.10:6443")),
    ("delivered as it was", evidence(reply=tracked(SERVICE)), Seen("none")),
    ("delivered, masqueraded", evidence(reply=tracked(POD, (NODE, 1))), Seen("dnat", "10.1.0.1:8080", True)),
    ("port unreachable", evidence(Refusal(TOKEN, CLIENT, 3)), REJECT),
    ("prohibited", evidence(Refusal(TOKEN, CLIENT, 13)), Seen(f"reject with ICMP code 13 to {CLIENT}")),
    ("told somebody else", evidence(Refusal(TOKEN, NODE, 3)), Seen(f"reject with ICMP code 3 to {NODE}")),
    ("reset", evidence(Reset(TOKEN)), Seen("reset")),
    (
        "delivered where nobody listens on UDP",
        evidence(Refusal(TOKEN, CLIENT, 3), reply=tracked(SERVICE)),
        Seen("none"),
    ),
    ("both sent on and refused", evidence(Refusal(TOKEN, CLIENT, 3), left()), Seen("dnat", "10.1.0.1:8080")),
]


@pytest.mark.parametrize(("name", "found", "seen"), FROM_THE_WIRE, ids=[name for name, *_ in FROM_THE_WIRE])
def test_a_packet_from_the_network(make_flow: Make, name: str, found: Evidence, seen: Seen) -> None:
    assert see(Attempt(make_flow(), TOKEN, PORT), found, target_is_local=False) == seen


@pytest.mark.parametrize(("code", "seen"), [(4, REJECT), (1, Seen("reject with ICMP code 1 to fd00::9"))])
def test_codes_of_ipv6_are_others(make_flow: Make, code: int, seen: Seen) -> None:
    flow = make_flow(src_ip="fd00::9", dst_ip="fd00:96::1")
    found = Evidence({TOKEN: [Refusal(TOKEN, "fd00::9", code)]}, lambda _: None)
    assert see(Attempt(flow, TOKEN, PORT), found, target_is_local=False) == seen


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


OF_A_PROCESS: list[tuple[str, int, Evidence, Seen]] = [
    ("nothing", 0, evidence(), DROP),
    ("refused", errno.ECONNREFUSED, evidence(), REJECT),
    ("refused though tracked", errno.ECONNREFUSED, evidence(reply=tracked(SERVICE)), REJECT),
    ("forbidden", errno.EPERM, evidence(), DROP),
    ("no route", errno.ENETUNREACH, evidence(), Seen("error ENETUNREACH")),
    ("sent on to a pod", 0, evidence(left()), Seen("dnat", "10.1.0.1:8080")),
    ("masqueraded", 0, evidence(left((NODE, 1))), Seen("dnat", "10.1.0.1:8080", True)),
    ("delivered on the node", 0, evidence(reply=tracked((NODE, 6443))), Seen("dnat", "192.0.2.10:6443")),
]


@pytest.mark.parametrize(("name", "error", "found", "seen"), OF_A_PROCESS, ids=[name for name, *_ in OF_A_PROCESS])
def test_a_process_of_the_node(
    make_flow: Make, sock: socket.socket, name: str, error: int, found: Evidence, seen: Seen
) -> None:
    attempt = Attempt(make_flow(), TOKEN, PORT, sock, error)
    assert see(attempt, found, target_is_local=False) == seen


@pytest.mark.parametrize(
    ("protocol", "delivered", "seen"),
    [
        ("udp", frozenset({TOKEN}), Seen("none")),
        ("udp", frozenset({TOKEN + 1}), DROP),
        ("tcp", frozenset({TOKEN}), DROP),  # tracked, but the connection never stood
    ],
)
def test_what_a_process_sends_to_its_own_node_must_arrive(
    make_flow: Make, sock: socket.socket, protocol: str, delivered: frozenset[int], seen: Seen
) -> None:
    attempt = Attempt(make_flow(proto=protocol), TOKEN, PORT, sock)
    found = Evidence({}, lambda begun: Direction(begun.protocol, begun.target, begun.source), delivered)
    assert see(attempt, found, target_is_local=True) == seen
    assert see(attempt, found, target_is_local=False) == Seen("none")


def test_a_connection_that_stands_has_arrived(make_flow: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        attempt = Attempt(make_flow(), TOKEN, PORT, sock)
        found = Evidence({}, lambda begun: Direction(begun.protocol, begun.target, begun.source))
        assert see(attempt, found, target_is_local=True) == Seen("none")


def test_a_sockets_error_is_kept(make_flow: Make, sock: socket.socket) -> None:
    """The kernel tells it once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    sock.setblocking(False)
    assert sock.connect_ex(address) in (errno.EINPROGRESS, errno.ECONNREFUSED)
    attempt = Attempt(make_flow(), TOKEN, PORT, sock)
    for _ in range(3):
        attempt.take_error()
        assert attempt.error == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (DROP, "drop"),
        (Seen("dnat", "10.1.0.1:80"), "dnat 10.1.0.1:80"),
        (Seen("dnat", "[fd00::1]:80", True), "dnat [fd00::1]:80 masqueraded"),
        (Seen("none", masquerade=True), "none masqueraded"),
    ],
)
def test_what_was_seen_in_words(seen: Seen, text: str) -> None:
    assert str(seen) == text


@pytest.mark.parametrize("text", ["10.1.0.1:80", "[fd00::1]:65535", "[::1]:1"])
def test_endpoints_there_and_back(text: str) -> None:
    assert endpoint_text(*endpoint_of(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "10.1.0.1",
        "10.1.0.1:",
        "10.1.0.1:x",
        "10.1.0.1:65536",
        "10.1.0.1:080",
        "[10.1.0.1]:80",
        "fd00::1:80",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint|address"):
        endpoint_of(text)


def test_addresses_are_written_in_one_way() -> None:
    assert canonical("fd00::1") == "fd00::1"
    with pytest.raises(ValueError, match="is written fd00::1"):
        canonical("fd00:0::1")
