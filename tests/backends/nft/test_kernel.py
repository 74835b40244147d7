"""Any sequence of changes leaves in the kernel what the books say, element for element."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kpng.backends.nft.books import Books
from kpng.backends.nft.layout import Layout
from kpng.backends.nft.options import Options
from kpng.backends.nft.statements import nft_family
from kpng.backends.nft.verify import differences
from kpng.host.nftables import Nftables
from kpng.model import FAMILIES, IPSet, LocalService

pytestmark = [pytest.mark.netns, pytest.mark.slow]

LAYOUTS = {family: Layout(family, Options()) for family in FAMILIES}


def random_service(rng: random.Random, make: Any, name: str) -> LocalService:
    """Any of the shapes that matter; addresses and node ports are few, so that services collide."""
    external = IPSet.of(rng.sample(["203.0.113.1", "203.0.113.2", "2001:db8::1"], rng.randrange(3)))
    pods = rng.sample(range(1, 9), rng.randrange(6))
    return make(
        name,
        vip=rng.randrange(1, 5),
        pods=pods,
        local=rng.sample(pods, len(pods) // 2),
        internal=rng.sample(pods, rng.randrange(len(pods) + 1)),
        available=rng.randrange(4),
        port=rng.choice([80, 81]),
        node_port=rng.choice([0, 30080, 30081]),
        external_ips=external,
        session_affinity_seconds=rng.choice([0, 0, 30, 60]),
        external_traffic_local=rng.random() < 0.3,
    )


def elements_of_books(services: list[LocalService]) -> dict[Any, dict[bytes, bytes]]:
    """What there should be, worked out from nothing."""
    draft = Books(LAYOUTS).draft({local.service.key: local for local in services}, fresh=True)
    return {
        (family, name): added
        for family, table in draft.tables.items()
        for name, added in table.change.added.items()
        if added
    }


def elements_of_kernel(connection: Nftables) -> dict[Any, dict[bytes, bytes]]:
    found = {}
    for family, layout in LAYOUTS.items():
        for name, wanted in layout.sets.items():
            if wanted.dynamic or wanted.verdicts or name == "state":
                continue
            dumped = {e.key: e.data for e in connection.elements(nft_family(family), "kpng", name)}
            if dumped:
                found[family, name] = dumped
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_kernel_follows(rig: Any, make: Any, seed: int) -> None:
    rng = random.Random(seed)
    backend = rig.start()
    state: dict[str, LocalService] = {}
    for _ in range(25):
        for name in rng.sample("abcdef", rng.randrange(1, 4)):
            if rng.random() < 0.3:
                state.pop(name, None)
            else:
                state[name] = random_service(rng, make, name)
        backend.set(*state.values())
        connection, books = backend.backend._connection, backend.backend._kernel.books
        assert rig.runner.call(lambda c=connection: elements_of_kernel(c)) == elements_of_books(
            list(state.values())
        )
        assert rig.runner.call(lambda c=connection, b=books: differences(c, b)) == []
    backend.stop()
    again = rig.start()
    before = again.generation()
    again.set(*state.values())
    again.checked()
    assert again.generation() == before
