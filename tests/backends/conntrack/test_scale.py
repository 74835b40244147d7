"""100,000 flows in the real kernel: just the stale ones go, and a small change costs little of what all cost.

Figures are printed (``pytest -s``); the bar of 50 ms for 1,000 stale flows is kept by benchmarks/conntrack.py, for
this machine may be busy with something else.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kpng.backends.conntrack import ConntrackReconciler
from kpng.host.conntrack import Conntrack, Query
from kpng.lab.conntrack import MadeFlow, clients, make_flows
from kpng.lab.netns import Namespace
from kpng.model import ChangeSet, LocalService
from kpng.testing import change_set, endpoint, full_state, local_service, service

pytestmark = [pytest.mark.netns, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
FLOWS = 100_000
SERVICES, ENDPOINTS = 15, 4
UDP, TCP = socket.IPPROTO_UDP, socket.IPPROTO_TCP
_numbers = itertools.count()


def vip(number: int) -> str:
    return f"10.96.0.{number}"


def pod(number: int, n: int) -> str:
    return f"10.1.{number}.{n}"


def some_service(number: int, count: int) -> LocalService:
    made = service(f"demo/s{number}", vip(number), ports="u=53:5353/UDP@30053 t=53:5353/TCP")
    return local_service(made, *(endpoint(pod(number, n), port="u=5353/UDP t=5353/TCP") for n in range(count)))


def table() -> Iterator[MadeFlow]:
    """Each client: UDP and TCP through a service, and flows that are nobody's business."""
    senders = clients(FLOWS)
    for number, sender in enumerate(senders):
        s, n = number % SERVICES, number // SERVICES % ENDPOINTS
        kind = number % 8
        if kind == 0:
            yield MadeFlow(sender, (vip(s), 53), (pod(s, n), 5353), TCP)
        elif kind == 1:  # a host outside, at the number of a node port
            yield MadeFlow(sender, ("198.51.100.9", 30053), ("198.51.100.9", 30053))
        elif kind == 2:  # straight to a pod
            yield MadeFlow(sender, (pod(s, n), 5353), (pod(s, n), 5353))
        else:
            yield MadeFlow(sender, (vip(s), 53), (pod(s, n), 5353))


class Inside:
    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self.reconciler = ConntrackReconciler()

    def count(self) -> int:
        path = "/proc/thread-self/net/stat/nf_conntrack"
        return self._executor.submit(lambda: int(Path(path).read_text().splitlines()[1].split()[0], 16)).result()

    def fill(self, flows: list[MadeFlow]) -> None:
        self._executor.submit(make_flows, flows).result()

    def flows(self, query: Query) -> int:
        def listed() -> int:
            conntrack = Conntrack()
            try:
                return sum(1 for _ in conntrack.flows(query))
            finally:
                conntrack.close()

        return self._executor.submit(listed).result()

    def take(self, name: str, changes: ChangeSet) -> tuple[int, float]:
        self.reconciler.note(changes)
        start = time.perf_counter()
        removed = self._executor.submit(lambda: asyncio.run(self.reconciler.reconcile())).result()
        milliseconds = (time.perf_counter() - start) * 1e3
        print(f"{name:24}{removed:>8} removed of {FLOWS}{milliseconds:>10.1f} ms")
        return removed, milliseconds


@pytest.fixture
def inside() -> Iterator[Inside]:
    with Namespace(f"kpt-ct-{os.getpid()}-{next(_numbers)}") as space, space.executor() as executor:
        made = Inside(executor)
        try:
            yield made
        finally:
            made.reconciler.close()


def test_among_100_000_flows(inside: Inside) -> None:
    flows = list(table())
    inside.fill(flows)
    assert inside.count() == FLOWS
    whole = [some_service(number, ENDPOINTS) for number in range(SERVICES)]
    removed, all_looked_at = inside.take("start, nothing stale", full_state(*whole))
    assert (removed, inside.count()) == (0, FLOWS)

    fewer = some_service(0, ENDPOINTS - 1)
    stale = [
        flow
        for flow in flows
        if flow.destination == (vip(0), 53) and flow.endpoint[0] == pod(0, 3) and flow.protocol == UDP
    ]
    assert len(stale) > 500
    removed, one_endpoint = inside.take("endpoint gone", change_set([whole[0]], [fewer]))
    assert (removed, inside.count()) == (len(stale), FLOWS - len(stale))
    assert one_endpoint < all_looked_at

    left = [flow for flow in flows if flow.destination == (vip(1), 53) and flow.protocol == UDP]
    removed, _ = inside.take("service gone", change_set([whole[1]], []))
    assert (removed, inside.count()) == (len(left), FLOWS - len(stale) - len(left))
    assert inside.flows(Query(socket.AF_INET, TCP)) == sum(flow.protocol == TCP for flow in flows)
    outside = sum(flow.destination[0] == "198.51.100.9" for flow in flows)
    assert inside.flows(Query(socket.AF_INET, port=30053)) == outside


def test_all_of_them_stale(inside: Inside) -> None:
    """A node cut off from all its endpoints: deletes by the hundred, none lost."""
    inside.fill(list(table()))
    whole = [some_service(number, ENDPOINTS) for number in range(SERVICES)]
    inside.take("start", full_state(*whole))
    tcp, udp = (inside.flows(Query(socket.AF_INET, protocol)) for protocol in (TCP, UDP))
    removed, _ = inside.take(
        "no endpoints any more", change_set(whole, [some_service(n, 0) for n in range(SERVICES)])
    )
    assert removed == FLOWS * 5 // 8
    assert inside.flows(Query(socket.AF_INET, TCP)) == tcp
    assert inside.flows(Query(socket.AF_INET, UDP)) == udp - removed


@pytest.mark.parametrize("ipv6", [False, True])
def test_the_benchmark_runs(tmp_path: Path, ipv6: bool) -> None:
    path = tmp_path / "figures.json"
    size = ["--flows", "2000", "--stale", "20", "--rounds", "2", "--json", str(path), *["--ipv6"] * ipv6]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.conntrack", *size], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "endpoint_gone" in done.stdout
    found = json.loads(path.read_text())
    assert found["name"] == "conntrack"
    assert found["params"] == {"flows": 2000, "stale": 20, "rounds": 2, "ipv6": ipv6}
    figures = found["figures"].items()
    removed = {name.removesuffix("_removed"): value for name, value in figures if name.endswith("_removed")}
    wanted = {"endpoint_gone": 20, "hot_endpoint_gone": 20, "start_after_loss": 20, "service_gone": 100}
    assert removed | wanted == removed
    assert removed["start"] == removed["endpoint_added"] == removed["endpoint_gone_without_flows"] == 0
