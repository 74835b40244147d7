"""How a refusal by ICMP reaches a probe: at once, each time, in both families, for TCP and for UDP.

The packets travel through two namespaces; the far one rejects them as kube-proxy's rules (and kpng's) do.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpng.lab.netns import Namespace, connect
from kpng.lab.network import _write
from kpng.lab.probes import REFUSED, TIMEOUT, Prober, Target
from kpng.lab.topology import plan
from kpng.lab.wiring import sysctls

pytestmark = pytest.mark.netns

FAR = {"ipv4": "192.0.2.2", "ipv6": "2001:db8:2::2"}
RULES = """table inet far {
    chain input {
        type filter hook input priority filter;
        meta l4proto { tcp, udp } th dport 81 reject with icmpx port-unreachable
        meta l4proto { tcp, udp } th dport 82 drop
        tcp dport 83 reject with tcp reset
        meta l4proto { tcp, udp } th dport 84 reject with icmpx no-route
        meta l4proto { tcp, udp } th dport 85 reject with icmpx admin-prohibited
    }
}"""
BURST = 12  # twice of what the kernel lets through with its usual limit


@pytest.fixture
def prober(lab_name: str) -> Iterator[Prober]:
    near, far = Namespace(f"kpng-{lab_name}-near"), Namespace(f"kpng-{lab_name}-far")
    settings = sysctls(plan(), "node1")
    with near, far:
        for space in (near, far):
            space.call(lambda: _write(settings))
        connect(near, "wire", far, "wire")
        for space, host in ((near, 1), (far, 2)):
            space.run("ip", "address", "add", f"192.0.2.{host}/24", "dev", "wire")
            space.run("ip", "address", "add", f"2001:db8:2::{host}/64", "dev", "wire", "nodad")
        far.run("nft", "-f", "-", stdin=RULES)
        sender = Prober(near)
        yield sender
        sender.close()


@pytest.mark.parametrize("family", FAR)
@pytest.mark.parametrize("protocol", ["http", "tcp", "udp"])
async def test_port_unreachable_is_a_refusal_each_time_and_at_once(
    prober: Prober, protocol: str, family: str
) -> None:
    replies = [await prober.send(Target(protocol, FAR[family], 81)) for _ in range(BURST)]
    assert [reply.error for reply in replies] == [REFUSED] * BURST
    assert max(reply.seconds for reply in replies) < 0.5  # the SYN's repetition would come after a second


@pytest.mark.parametrize("family", FAR)
@pytest.mark.parametrize("protocol", ["http", "udp"])
async def test_silence_is_a_timeout(prober: Prober, protocol: str, family: str) -> None:
    reply = await prober.send(Target(protocol, FAR[family], 82), seconds=0.1)
    assert reply.error == TIMEOUT
    assert reply.seconds >= 0.1


@pytest.mark.parametrize("family", FAR)
async def test_a_reset_is_a_refusal(prober: Prober, family: str) -> None:
    assert (await prober.send(Target("http", FAR[family], 83))).error == REFUSED


@pytest.mark.parametrize(
    ("port", "family", "error"),
    [
        (84, "ipv6", "unreachable"),
        (85, "ipv4", "unreachable"),
        (85, "ipv6", "[Errno 13] Permission denied"),
    ],
)
async def test_other_icmp_errors_are_told_apart(prober: Prober, port: int, family: str, error: str) -> None:
    """A proxy that answers with another error than "port unreachable" must not pass for one that refuses."""
    reply = await prober.send(Target("udp", FAR[family], port))
    assert reply.error == error


async def test_ports_that_nobody_rejects_refuse_by_themselves(prober: Prober) -> None:
    for address in FAR.values():
        for protocol in ("http", "udp"):
            assert (await prober.send(Target(protocol, address, 99))).error == REFUSED
