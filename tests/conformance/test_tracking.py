"""Connection tracking is asked for single connections; devices are files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kpng.conformance import network
from kpng.conformance.packets import build
from kpng.conformance.parsing import Departure, parse
from kpng.conformance.tracking import Direction, Tracking
from kpng.conformance.tun import Tun
from kpng.lab.netns import Namespace

pytestmark = pytest.mark.netns

ENDS = {
    4: (("192.0.2.1", 40000), ("198.51.100.1", 80)),
    6: (("2001:db8::1", 40000), ("2001:db8:1::1", 80)),
}
RULES = """table ip nat {
  chain before { type nat hook prerouting priority -100; tcp dport 80 dnat to 10.1.0.1:8080; }
  chain after { type nat hook postrouting priority 100; tcp dport 8080 snat to 10.9.9.9:5; }
}"""
PROTOCOLS = ["tcp", "udp", "sctp"]


@pytest.fixture
def router() -> Iterator[tuple[Namespace, ThreadPoolExecutor]]:
    with Namespace(f"kpt-tracking-{os.getpid()}") as namespace, namespace.executor() as thread:
        thread.submit(network.prepare, namespace).result()
        yield namespace, thread


@pytest.fixture
def device(router: tuple[Namespace, ThreadPoolExecutor]) -> Iterator[Tun]:
    namespace, thread = router
    made = thread.submit(network.open_device, namespace, "eth0").result()
    namespace.run("ip", "route", "add", "0.0.0.0/0", "dev", "eth0")
    namespace.run("ip", "-6", "route", "add", "::/0", "dev", "eth0")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def tracking(router: tuple[Namespace, ThreadPoolExecutor]) -> Iterator[Tracking]:
    made = router[1].submit(Tracking).result()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("version", [4, 6])
def test_a_router_passes_on_what_comes_in(device: Tun, version: int, protocol: str) -> None:
    source, target = ENDS[version]
    device.send(build(protocol, source, target, 7))
    assert Departure(7, source, target) in [parse(packet) for packet in device.received()]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_is_known_until_it_is_forgotten(
    device: Tun, tracking: Tracking, version: int, protocol: str
) -> None:
    source, target = ENDS[version]
    begun = Direction(protocol, source, target)
    assert tracking.reply(begun) is None
    device.send(build(protocol, source, target, 7))
    assert tracking.reply(begun) == Direction(protocol, target, source)
    assert tracking.reply(Direction(protocol, source, (target[0], 81))) is None
    tracking.forget()
    assert tracking.reply(begun) is None


def test_translation_shows_in_the_reply(
    router: tuple[Namespace, ThreadPoolExecutor], device: Tun, tracking: Tracking
) -> None:
    router[0].run("nft", "-f", "-", stdin=RULES)
    source, target = ENDS[4]
    device.send(build("tcp", source, target, 7))
    assert tracking.reply(Direction("tcp", source, target)) == Direction("tcp", ("10.1.0.1", 8080), ("10.9.9.9", 5))


def test_a_device_goes_with_its_handle(router: tuple[Namespace, ThreadPoolExecutor]) -> None:
    namespace, thread = router
    device = thread.submit(Tun, "tun7").result()
    assert "tun7" in namespace.run("ip", "link", "show")
    device.close()
    assert "tun7" not in namespace.run("ip", "link", "show")


def test_a_device_that_is_taken_is_an_error(router: tuple[Namespace, ThreadPoolExecutor], device: Tun) -> None:
    with pytest.raises(OSError, match="busy"):
        router[1].submit(Tun, "eth0").result()


def test_settings_that_are_not_there_are_left(
    router: tuple[Namespace, ThreadPoolExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace, thread = router
    monkeypatch.setattr(network, "_SETTINGS", {"net/ipv4/no_such_setting": "1", "net/ipv4/ip_forward": "0"})
    thread.submit(network.prepare, namespace).result()
    assert namespace.run("cat", "/proc/sys/net/ipv4/ip_forward") == "0\n"
