"""A private namespace: what it needs, and that it goes away however the work ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from pathlib import Path

import pytest

from kpng.conformance import inside
from kpng.conformance.inside import check_machine, run_inside
from kpng.conformance.network import PREFIX, remove_remains
from kpng.lab.netns import Namespace
from kpng.model import UserError

OURS = f"{PREFIX}{os.getpid()}"


def there() -> bool:
    return Namespace(OURS).exists()


def test_packets_need_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="needs root"):
        check_machine()


@pytest.mark.parametrize(("tool", "package"), [("ip", "iproute2"), ("nft", "nftables")])
def test_packets_need_tools(monkeypatch: pytest.MonkeyPatch, tool: str, package: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else "/usr/sbin/" + name)
    with pytest.raises(UserError, match=rf"'{tool}': install it, for example with 'apt-get install {package}'$"):
        check_machine()


def test_packets_need_tun_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/sbin/" + name)
    monkeypatch.setattr(inside, "_TUN", Path("/dev/net/no-such-device"))
    with pytest.raises(UserError, match="TUN devices"):
        check_machine()


def namespace_here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


@pytest.mark.netns
async def test_work_is_inside_and_so_are_its_threads() -> None:
    async def work(namespace: Namespace) -> tuple[str, str, str]:
        other = await asyncio.to_thread(namespace_here)
        return namespace_here(), other, namespace.name

    here, in_thread, name = await run_inside(work)
    assert here == in_thread != namespace_here()
    assert name == OURS
    assert not there()


@pytest.mark.netns
async def test_what_goes_wrong_inside_comes_out() -> None:
    async def work(namespace: Namespace) -> None:
        assert there()
        raise UserError("no such thing")

    with pytest.raises(UserError, match="no such thing"):
        await run_inside(work)
    assert not there()


@pytest.mark.netns
async def test_a_command_that_fails_inside_is_one_line() -> None:
    async def work(namespace: Namespace) -> None:
        namespace.run("ip", "link", "set", "no-such-device", "up")

    with pytest.raises(UserError, match=r"^the conformance run cannot prepare its network: ip netns exec"):
        await run_inside(work)
    assert not there()


@pytest.mark.netns
async def test_cancelled_from_outside_it_ends_inside() -> None:
    began, ended = threading.Event(), []

    async def work(namespace: Namespace) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    task = asyncio.create_task(run_inside(work))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    assert not there()


@pytest.mark.netns
def test_only_remains_of_the_dead_are_removed() -> None:
    living, other = Namespace(f"{PREFIX}1"), Namespace(f"{PREFIX}x{os.getpid()}")
    dead = Namespace(f"{PREFIX}{2**22 + 1}")  # no process ever has that number (PID_MAX_LIMIT)
    with living, other, dead:
        remove_remains()
        assert [space.exists() for space in (living, other, dead)] == [True, True, False]
