"""The backend as the runtime sees it: concurrency, large and small changes, retry."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kpng.backends import load_backend, run_backend
from kpng.backends.nft import NftBackend
from kpng.backends.nft import backend as backend_module
from kpng.backends.nft.kernel import Kernel
from kpng.backends.nft.verify import differences
from kpng.host.nftables import TableFlag
from kpng.model import ChangeSet, IPSet, LocalNode, LocalService, ServiceChange

Make = Callable[..., LocalService]


def full(*services: LocalService) -> ChangeSet:
    return ChangeSet({local.service.key: ServiceChange(None, local) for local in services}, full=True)


def test_is_found_by_its_entry_point() -> None:
    assert load_backend("nft") is NftBackend


async def stream(*changes: ChangeSet) -> AsyncIterator[ChangeSet]:
    for change_set in changes:
        yield change_set
        await asyncio.sleep(0)


@pytest.mark.netns
def test_driven_by_the_runtime(rig: Any, make: Make) -> None:
    before, after = make(pods=(1,)), make(pods=(2,))
    steps = full(before), ChangeSet({before.service.key: ServiceChange(before, after)})
    rig.runner.run(run_backend(NftBackend(), stream(*steps)))
    assert set(rig.client.count(5, "10.96.0.7", 80)) == {"10.1.0.2"}


@pytest.mark.netns
def test_what_may_take_long_does_not_hold_up_the_event_loop(
    rig: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small change is faster at once; a Node may concern every Service with source ranges."""
    threads: list[int] = []
    apply = Kernel.apply

    def noting(*args: Any, **options: Any) -> Any:
        threads.append(threading.get_ident())
        return apply(*args, **options)

    monkeypatch.setattr(Kernel, "apply", noting)
    backend = rig.start()
    loop = backend.runner.call(threading.get_ident)
    backend.set(make())
    backend.set(make(pods=(1,)))
    backend.set(make(pods=(1,)), node=LocalNode(name="n", addresses=IPSet(("192.0.2.1",))))
    assert [each == loop for each in threads] == [False, True, False]


@pytest.mark.netns
def test_the_runtime_mends_a_table_that_somebody_deleted(
    rig: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails once, and the retry programs all of it; without ownership, or nobody could delete it."""
    monkeypatch.setattr("kpng.backends.nft.kernel._OWNED", TableFlag.NONE)
    before, after = make(pods=(1,)), make(pods=(2,))

    async def changes() -> AsyncIterator[ChangeSet]:
        yield full(before, make("other", vip=8))
        await asyncio.to_thread(_wait_until, lambda: "10.96.0.8" in rig.nft("list", "ruleset"))
        await asyncio.to_thread(rig.nft, "flush", "ruleset")
        yield ChangeSet({before.service.key: ServiceChange(before, after)})

    rig.runner.run(run_backend(NftBackend(), changes()))
    assert set(rig.client.count(5, "10.96.0.7", 80)) == {"10.1.0.2"}
    assert rig.client.reach("10.96.0.8", 80)


def _wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.netns
def test_a_large_change_does_not_stop_the_event_loop(rig: Any, make: Make) -> None:
    """Health checks and streams go on while thousands of services are worked out."""
    longest, whole = rig.runner.run(_longest_pause([_far_service(make, number) for number in range(12_000)]))
    assert longest < whole / 3


def _far_service(make: Make, number: int) -> LocalService:
    address = IPSet((f"10.97.{number >> 8}.{number & 255}",))
    return make(f"far-{number}", cluster_ips=address, pods=(1, 2, 3, 4, 5))


async def _longest_pause(services: list[LocalService]) -> tuple[float, float]:
    backend = NftBackend()
    await backend.start()
    start = last = time.monotonic()
    longest = 0.0
    applying = asyncio.create_task(backend.apply(full(*services)))
    while not applying.done():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    await applying
    await backend.stop()
    return longest, last - start


@pytest.mark.netns
def test_changes_while_verification_runs(rig: Any, make: Make) -> None:
    """Verification gives way: it compares only what stood still, and repairs nothing that is right."""
    services = [make(), make("other", vip=8)]
    first = rig.start()
    first.set(*services)
    first.stop()
    second = rig.start()
    second.set(*services)
    for number in range(30):
        second.set(make(pods=(1, 2, 3 + number % 3)), services[1])
    second.checked()
    connection, books = second.backend._connection, second.backend._kernel.books
    assert rig.runner.call(lambda: differences(connection, books)) == []
    generation = second.generation()
    second.set(make(pods=(1, 2, 3 + 29 % 3)), services[1])
    assert second.generation() == generation


@pytest.mark.netns
def test_stopping_in_the_middle_of_verification(rig: Any, make: Make) -> None:
    first = rig.start()
    first.set(make())
    first.stop()
    second = rig.start()
    second.set(make())
    second.stop()
    assert rig.client.reach("10.96.0.7", 80)


@pytest.mark.netns
@pytest.mark.parametrize("limit", [0, 10_000])
def test_small_and_large_changes_do_the_same(
    rig: Any, make: Make, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "_INLINE_ENDPOINTS", limit)
    backend = rig.start()
    backend.set(make(pods=(1,)))
    backend.set(make(pods=(2,)))
    assert set(rig.client.count(5, "10.96.0.7", 80)) == {"10.1.0.2"}


@pytest.mark.netns
def test_traffic_goes_on_over_a_restart(rig: Any, make: Make) -> None:
    """A backend ends and another begins, with other options, so that all is replaced: no connection fails."""
    services = [make(f"s{n}", vip=n) for n in range(1, 30)]
    backend = rig.start()
    backend.set(*services)
    counting = rig.client.start(lambda: _connect_until(time.monotonic() + 2))
    restarts = 0
    while not counting.done():
        backend.stop()
        backend = rig.start(masquerade_all=restarts % 2 == 0)
        backend.set(*services)
        restarts += 1
    connects, failed = counting.result()
    assert restarts > 5
    assert connects > 100
    assert failed == 0


def _connect_until(end: float) -> tuple[int, int]:
    done = failed = 0
    while time.monotonic() < end:
        done += 1
        try:
            with socket.create_connection((f"10.96.0.{done % 29 + 1}", 80), 0.8) as sock:
                sock.recv(1)
        except OSError:
            failed += 1
    return done, failed
