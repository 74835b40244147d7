"""What the backend of ``kpng proxy`` tells of itself. It prints instead of programming: no root needed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from kpng.backends import run_backend
from kpng.backends.nft import NftBackend
from kpng.cli import proxy_backend
from kpng.cli.proxy_backend import ProxyBackend, backend_options
from kpng.health import HealthCheckServers, HealthState
from kpng.model import FAMILIES, ChangeSet, Family, IPSet, LocalNode, UserError
from kpng.proxyconfig import KubeProxyConfiguration, apply_defaults
from kpng.testing import endpoint, full_state, local_service, service

STATE = full_state(local_service(service("demo/web", "10.96.0.1"), endpoint("10.244.0.1")))
NODE = LocalNode(name="n", addresses=IPSet.of(["192.0.2.1", "2001:db8::1"]), eligible=True)


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, bind_address: str = "") -> None:
        self.elapsed = 0.0
        self.takeovers: list[bool] = []
        self.may_take_over = threading.Event()
        self.may_take_over.set()
        self.asked: list[IPSet] = []
        monkeypatch.setattr(proxy_backend, "take_over_from_kube_proxy", self._take_over)
        self.state = HealthState(60.0, steady=lambda: self.elapsed)
        self.servers = HealthCheckServers(self.state, self._addresses)
        self.backend = ProxyBackend(self.state, self.servers, bind_address, dry_run=True)

    def _take_over(self) -> None:
        assert self.may_take_over.wait(5)
        self.takeovers.append(self.state.healthy)

    async def taken_over(self) -> None:
        async with asyncio.timeout(5):
            while not self.takeovers:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.005)

    def _addresses(self, node: IPSet) -> Mapping[Family, tuple[str, ...]]:
        self.asked.append(node)
        return dict.fromkeys(FAMILIES, ())


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


@pytest.fixture
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def apply(self: NftBackend, changes: ChangeSet) -> None:
        raise OSError("the kernel has no mind to")

    monkeypatch.setattr(NftBackend, "apply", apply)


async def test_what_is_applied_is_healthy(rig: Rig) -> None:
    await rig.backend.apply(STATE)
    rig.elapsed = 1e6
    assert rig.state.healthy


@pytest.mark.usefixtures("_broken")
async def test_m4_what_fails_waits_from_its_first_attempt_on(rig: Rig) -> None:
    for moment in (0, 30, 59):
        rig.elapsed = moment
        with pytest.raises(OSError, match="no mind"):
            await rig.backend.apply(STATE)
        assert rig.state.healthy
    rig.elapsed = 60
    assert not rig.state.healthy
    assert rig.takeovers == [], "X14: kube-proxy's rules stay"


async def test_m4_what_succeeds_in_the_end_is_healthy_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(NftBackend, "apply", _refuse)
        with pytest.raises(OSError, match="not now"):
            await rig.backend.apply(STATE)
    rig.elapsed = 100
    assert not rig.state.healthy
    await rig.backend.apply(STATE)
    assert rig.state.healthy


async def _refuse(self: NftBackend, changes: ChangeSet) -> None:
    raise OSError("not now")


async def test_x14_kube_proxys_rules_go_once_after_ours(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    await rig.backend.apply(STATE)
    assert "10.96.0.1" in capsys.readouterr().out
    await rig.backend.apply(ChangeSet({}))
    await rig.taken_over()
    assert rig.takeovers == [True]


async def test_changes_do_not_wait_for_what_kube_proxy_left(rig: Rig) -> None:
    """To remove the chains of 10,000 Services takes iptables many seconds."""
    rig.may_take_over.clear()
    try:
        async with asyncio.timeout(3):
            await rig.backend.apply(STATE)
            await rig.backend.apply(ChangeSet({}))
        assert rig.takeovers == []
    finally:
        rig.may_take_over.set()
    await rig.taken_over()
    assert rig.takeovers == [True]


async def test_k6_the_node_is_told_before_its_rules_are_made(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NftBackend, "apply", _refuse)
    with pytest.raises(OSError, match="not now"):
        await rig.backend.apply(ChangeSet({}, full=True, node=NODE))
    assert rig.state.report().node_eligible


async def seen_by_to_nft(monkeypatch: pytest.MonkeyPatch, bind_address: str) -> IPSet:
    seen: list[ChangeSet] = []

    async def apply(self: NftBackend, changes: ChangeSet) -> None:
        seen.append(changes)

    monkeypatch.setattr(NftBackend, "apply", apply)
    await Rig(monkeypatch, bind_address).backend.apply(ChangeSet({}, full=True, node=NODE))
    (changes,) = seen
    assert changes.node is not None
    assert changes.node.eligible
    return changes.node.addresses


async def test_k2_the_bind_address_takes_the_place_of_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await seen_by_to_nft(monkeypatch, "0.0.0.0") == NODE.addresses
    assert await seen_by_to_nft(monkeypatch, "192.0.2.9") == IPSet.of(["192.0.2.9", "2001:db8::1"])


async def test_health_checks_follow_the_node(rig: Rig) -> None:
    checked = service("demo/web", "10.96.0.1", health_check_node_port=32000)
    running = asyncio.create_task(rig.servers.run())
    try:
        await rig.backend.apply(full_state(local_service(checked)))
        await asyncio.sleep(0.01)
        await rig.backend.apply(ChangeSet({}, node=NODE))
        await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert rig.asked[-1] == NODE.addresses


@pytest.mark.usefixtures("_broken")
async def test_the_runtime_goes_on_trying(rig: Rig) -> None:
    async def one() -> Any:
        yield STATE
        await asyncio.Event().wait()

    running = asyncio.create_task(run_backend(rig.backend, one()))
    await asyncio.sleep(0.3)
    assert not running.done()
    rig.elapsed = 60
    assert not rig.state.healthy
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def configured(**fields: Any) -> KubeProxyConfiguration:
    return apply_defaults(KubeProxyConfiguration(**fields))


def test_the_configuration_becomes_what_the_backend_takes() -> None:
    options = backend_options(configured(cluster_cidr="10.0.0.0/8,fd00::/8"))
    NftBackend(**options)
    assert "".join(options["cluster_cidr"]) == "10.0.0.0/8,fd00::/8"
    assert options["masquerade_all"] is False
    masqueraded = configured()
    masqueraded.nftables.masquerade_all = True
    assert backend_options(masqueraded)["masquerade_all"] is True


def test_what_the_backend_refuses_is_the_users_mistake() -> None:
    with pytest.raises(UserError):
        NftBackend(**backend_options(configured(cluster_cidr="10.0.0.0")))


def test_the_modes_of_interfaces_are_taken_too() -> None:
    config = configured(detect_local_mode="BridgeInterface", node_port_addresses=["192.0.2.0/24", "::/0"])
    config.detect_local.bridge_interface = "cni0"
    options = backend_options(config)
    NftBackend(**options)
    assert (options["detect_local_mode"], options["pod_bridge_interface"]) == ("BridgeInterface", "cni0")
    assert "".join(options["nodeport_addresses"]) == "192.0.2.0/24,::/0"
    assert "".join(backend_options(configured())["nodeport_addresses"]) == "primary", "H2"
