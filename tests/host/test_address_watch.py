"""X6: word of addresses that come and go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from kpng.host.address_watch import AddressWatch
from kpng.lab.netns import Namespace


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace(f"kpt-watch-{os.getpid()}") as made:
        yield made


async def told(watch: AddressWatch) -> bool:
    changes = watch.changes()
    try:
        async with asyncio.timeout(0.5):
            await anext(changes)
    except TimeoutError:
        return False
    else:
        return True
    finally:
        await changes.aclose()  # type: ignore[attr-defined]


CHANGES = [
    ("ip addr add 192.0.2.1/24 dev lo", True),
    ("ip addr add 2001:db8::1/64 dev lo nodad", True),
    ("ip link add kpt0 type veth peer name kpt1", False),
]


@pytest.mark.netns
@pytest.mark.parametrize(("command", "is_told"), CHANGES)
async def test_a_change_is_told(namespace: Namespace, command: str, is_told: bool) -> None:
    watch = namespace.call(AddressWatch)
    try:
        assert not await told(watch)
        namespace.run(*command.split())
        assert await told(watch) is is_told
    finally:
        watch.close()


@pytest.mark.netns
async def test_what_goes_is_told_and_many_are_one(namespace: Namespace) -> None:
    for number in range(1, 20):
        namespace.run("ip", "addr", "add", f"192.0.2.{number}/32", "dev", "lo")
    watch = namespace.call(AddressWatch)
    try:
        namespace.run("ip", "addr", "flush", "dev", "lo")
        assert await told(watch)
        assert not await told(watch)
    finally:
        watch.close()


@pytest.mark.netns
async def test_more_than_fits_is_told_too(namespace: Namespace) -> None:
    watch = namespace.call(AddressWatch)
    try:
        batch = "".join(f"addr add 10.{n // 256}.{n % 256}.1/32 dev lo\n" for n in range(3000))
        namespace.run("ip", "-batch", "-", stdin=batch)
        assert await told(watch)
        assert not await told(watch)
    finally:
        watch.close()
