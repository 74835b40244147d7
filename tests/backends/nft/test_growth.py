"""Sets that begin large have a size; who outgrows one gets larger tables, and nobody notices."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpng.backends.nft import NftBackend, books
from kpng.backends.nft.books import Books, Draft
from kpng.backends.nft.layout import Layout
from kpng.backends.nft.options import Options
from kpng.backends.nft.verify import differences
from kpng.model import FAMILIES, ChangeSet, Family, IPSet, LocalService, ServiceChange

pytestmark = pytest.mark.netns

VIP = "10.96.0.200"
VIP_NUMBER, VIP_WEB = 201, "10.96.0.201"
CLIENTS = [f"192.0.2.{n}" for n in range(10, 16)]
OUTGROWN = "programming the tables anew, with more room"
STICKY = {"vip": 200, "session_affinity_seconds": 600}


@pytest.fixture(autouse=True)
def _soon_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "MANY_ELEMENTS", 4)


def many(make: Any, count: int) -> list[LocalService]:
    return [make(f"s{n}", vip=n, pods=(1, 2)) for n in range(1, count + 1)]


def sizes(rig: Any, family: str = "ip") -> dict[str, int]:
    """Those that are in the kernel, of sets that the packet path does not fill."""
    listed = rig.nft("list", "table", family, "kpng")
    found = re.findall(r"(?:set|map) (\w+) \{\n(.*?)\n\t\}", listed, re.DOTALL)
    each = {name: re.search(r"\bsize (\d+)", text) for name, text in found if "dynamic" not in text}
    return {name: int(size[1]) for name, size in each.items() if size}


def same_as_kernel(programmed: Any) -> list[str]:
    backend = programmed.backend
    return programmed.runner.call(lambda: differences(backend._connection, backend._kernel.books))


# -- books -----------------------------------------------------------------------------------------


def fresh(*services: LocalService) -> Draft:
    made = Books({family: Layout(family, Options()) for family in FAMILIES})
    return made.draft({local.service.key: local for local in services}, fresh=True)


@pytest.mark.parametrize(("services", "size"), [(1, None), (2, 8), (3, 16), (4, 16), (5, 32), (100, 512)])
def test_a_size_has_room_for_twice_what_is_there(make: Any, services: int, size: int | None) -> None:
    """Two endpoints each; powers of two, so that a few more or less are no other size."""
    for table in fresh(*many(make, services)).tables.values():
        assert table.change.sizes.get("endpoints") == size
        assert table.change.sizes.get("services") == (size // 2 if size and services > 3 else None)


def test_a_change_to_a_table_makes_no_sizes(make: Any) -> None:
    made = Books({family: Layout(family, Options()) for family in FAMILIES})
    draft = made.draft({local.service.key: local for local in many(make, 50)})
    assert [table.change.sizes for table in draft.tables.values()] == [{}, {}]


def test_sets_of_intervals_have_no_size(make: Any) -> None:
    """They are no hash tables."""
    ranges = tuple(f"192.0.{n}.0/24" for n in range(0, 100, 2))
    guarded = make(load_balancer_ips=IPSet(("203.0.113.1",)), source_ranges=ranges)
    change = fresh(guarded).tables[Family.IPV4].change
    assert len(change.added["source_ranges"]) == 50
    assert "source_ranges" not in change.sizes


# -- the kernel ------------------------------------------------------------------------------------


def test_sets_grow_with_their_table(rig: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    backend = rig.start()
    backend.set(*many(make, 2))
    assert sizes(rig) == sizes(rig, "ip6") == {"endpoints": 8}
    backend.set(*many(make, 4))
    assert sizes(rig) == {"endpoints": 8}
    with caplog.at_level(logging.INFO):
        before = backend.generation()
        backend.set(*many(make, 5))
    assert backend.generation() == before + 1
    assert caplog.text.count(f"endpoints is full: {OUTGROWN}") == 1
    assert sizes(rig)["endpoints"] == 32
    assert same_as_kernel(backend) == []
    assert {rig.client.reach(f"10.96.0.{n}", 80)[1] for n in range(1, 6)} == {8080}
    assert rig.nft("list", "ruleset")


@pytest.mark.parametrize("inline", [1, 10_000], ids=["in a thread", "in the event loop"])
def test_however_a_change_is_worked_out(rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch, inline: int) -> None:
    """The event loop is never held up by the making of new tables."""
    monkeypatch.setattr("kpng.backends.nft.backend._INLINE_ENDPOINTS", inline)
    threads: list[str] = []
    backend = rig.start()
    replace = backend.backend._kernel._replace

    def noted(draft: Draft) -> None:
        threads.append(threading.current_thread().name)
        replace(draft)

    monkeypatch.setattr(backend.backend._kernel, "_replace", noted)
    backend.set(*many(make, 2))
    backend.set(*many(make, 20))
    assert len(threads) == 2
    assert all(name.startswith("asyncio_") for name in threads)
    assert same_as_kernel(backend) == []


def test_a_table_that_began_small_grows_without_limit(
    rig: Any, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    backend = rig.start()
    backend.set(make("s1", vip=1, pods=(1,)))
    with caplog.at_level(logging.INFO):
        for count in range(2, 30):
            backend.set(*many(make, count))
    assert OUTGROWN not in caplog.text
    assert sizes(rig) == {}
    assert same_as_kernel(backend) == []


def test_a_restart_writes_nothing_whatever_the_sizes(rig: Any, make: Any) -> None:
    """They are no part of what a table is known by: it may have had more, or less, when it was made."""
    first = rig.start()
    first.set(*many(make, 20))
    first.set(*many(make, 3))
    first.stop()
    second = rig.start()
    before = second.generation()
    second.set(*many(make, 3))
    second.checked()
    assert second.generation() == before
    assert sizes(rig)["endpoints"] == 128


def test_what_was_adopted_can_be_outgrown(rig: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    first = rig.start()
    first.set(*many(make, 3))
    first.stop()
    second = rig.start()
    second.set(*many(make, 3))
    with caplog.at_level(logging.INFO):
        second.set(*many(make, 12))
    assert caplog.text.count(OUTGROWN) == 1
    assert sizes(rig)["endpoints"] == 64
    assert same_as_kernel(second) == []


def test_clients_keep_their_endpoints(rig: Any, make: Any) -> None:
    backend = rig.start()
    sticky = make("sticky", pods=(1, 2, 3, 4, 5), **STICKY)
    backend.set(sticky, *many(make, 2))
    pods = {source: rig.client.reach(VIP, 80, source=source)[0] for source in CLIENTS}
    known = rig.nft("list", "map", "ip", "kpng", "affinity_clients").count("expires")
    assert known == len(CLIENTS)
    for count in (5, 20, 60):
        backend.set(sticky, *many(make, count))
    assert sizes(rig)["endpoints"] >= 120
    for source, pod in pods.items():
        assert set(rig.client.count(3, VIP, 80, source=source)) == {pod}
    assert rig.nft("list", "map", "ip", "kpng", "affinity_clients").count("expires") == known


def test_connections_during_growth(rig: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Tables are replaced again and again under a client that connects all the time: none fails."""
    backend = rig.start()
    web = make("web", vip=VIP_NUMBER, pods=(3, 4))
    backend.set(web)
    counting = rig.client.start(lambda: _connect_until(time.monotonic() + 3))
    caplog.set_level(logging.INFO)
    for count in (2, 8, 30, 100, 2, 8, 30, 100) * 2:
        backend.set(web, *many(make, count))
        if count == 2:  # as from the start, so that it can be outgrown again
            backend.backend._kernel.known = False
            backend.set(web, *many(make, 3))
    reached, failed = counting.result()
    assert caplog.text.count(OUTGROWN) >= 6
    assert failed == []
    assert set(reached) == {"10.1.0.3", "10.1.0.4"}
    assert sum(reached.values()) > 200


@pytest.mark.parametrize("damage", ["flush map ip kpng endpoints", "flush ruleset", "delete map ip kpng endpoints"])
def test_damage_to_sized_sets_is_repaired(rig: Any, make: Any, damage: str) -> None:
    first = rig.start()
    first.set(*many(make, 10))
    first.stop()
    second = rig.start()
    second.set(*many(make, 10))
    second.checked()
    if damage.startswith("delete"):
        rig.nft("flush", "table", "ip", "kpng")  # else it is in use
    rig.nft(damage)
    second.checked()
    assert same_as_kernel(second) == []
    assert sizes(rig)["endpoints"] == 64


def test_a_set_filled_by_somebody_else(rig: Any, make: Any) -> None:
    """What it holds is nothing we could have counted."""
    first = rig.start()
    first.set(*many(make, 4))
    first.stop()
    second = rig.start()
    second.set(*many(make, 4))
    foreign = ", ".join(f"10.99.0.1 . tcp . 80 . {n} : 10.1.0.1 . 8080" for n in range(8))
    rig.nft(f"add element ip kpng endpoints {{ {foreign} }}")
    second.set(*many(make, 5))
    assert same_as_kernel(second) == []
    assert "10.99.0.1" not in rig.nft("list", "map", "ip", "kpng", "endpoints")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=6))
def test_any_way_leads_to_the_same(rig: Any, make: Any, counts: list[int]) -> None:
    rig.reset()
    backend = rig.start()
    for count in counts:
        backend.set(*many(make, count))
        assert same_as_kernel(backend) == []
    before = backend.generation()
    backend.stop()
    again = rig.start()
    again.set(*many(make, counts[-1]))
    assert again.generation() == before


async def test_a_dry_run_shows_the_sizes(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    state = {local.service.key: ServiceChange(None, local) for local in many(make, 3)}
    await NftBackend(dry_run=True).apply(ChangeSet(state, full=True))
    printed = capsys.readouterr().out
    assert printed.count("size 16\n") == 2


def _connect_until(end: float) -> tuple[Counter[str], list[str]]:
    reached: Counter[str] = Counter()
    failed: list[str] = []
    while time.monotonic() < end:
        try:
            with socket.create_connection((VIP_WEB, 80), 0.9) as sock:
                reached[sock.recv(100).decode().split()[0]] += 1
        except OSError as error:
            failed.append(str(error))
    return reached, failed
