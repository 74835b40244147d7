"""Removing stale UDP flows: what one pass of the reconciler takes, by how much there is to look at.

    python -m benchmarks.conntrack --flows 100000 --stale 1000 --json FILE

Needs root; works in a network namespace of its own, whose table it fills by netlink. ``hot_`` is one service that
has all flows (cluster DNS); else each service has five endpoints, and each endpoint ``--stale`` flows. Beside it:
what the kernel takes to remove as many flows by one delete with a filter (not on Linux 6.1, but on 6.18). With
``--ipv6`` all addresses are IPv6, by which the kernel does not filter, only by port.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import time
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import Figures, parser, report, stoppable
from kpng.backends.conntrack import ConntrackReconciler
from kpng.host.conntrack import Query, socket_address
from kpng.host.conntrack.messages import Kind, get_flows
from kpng.host.netlink import HEADER, NetfilterSocket, message
from kpng.lab.conntrack import MadeFlow, clients, make_flows
from kpng.lab.netns import Namespace
from kpng.model import (
    ChangeSet,
    Endpoint,
    EndpointPort,
    IPSet,
    LocalService,
    PortMapping,
    Protocol,
    Service,
    ServiceChange,
    ServiceKey,
)


class Pass(NamedTuple):
    milliseconds: float
    removed: int


State = dict[ServiceKey, LocalService]
ENDPOINTS = 5
TARGET = 5353


class Cluster(NamedTuple):
    """Services and their addresses; ``prefix`` makes IPv6 ones of them."""

    prefix: str = ""

    def vip(self, service: int) -> str:
        return f"{self.prefix}10.96.{service >> 8}.{service & 255}"

    def pod(self, service: int, endpoint: int) -> str:
        return f"{self.prefix}10.{128 + endpoint}.{service >> 8}.{service & 255}"

    def service(self, number: int, endpoints: int) -> LocalService:
        service = Service(
            namespace="bench",
            name=f"service-{number}",
            cluster_ips=IPSet.of([self.vip(number)]),
            ports=(PortMapping(53, Protocol.UDP, "dns"),),
        )
        port = EndpointPort("dns", TARGET, Protocol.UDP)
        ends = (Endpoint(addresses=IPSet.of([self.pod(number, n)]), ports=(port,)) for n in range(endpoints))
        return LocalService(service, {f"e{n}": end for n, end in enumerate(ends)})

    def flow(self, client: tuple[str, int], service: int, endpoint: int) -> MadeFlow:
        sender = self.prefix + client[0], client[1]
        return MadeFlow(sender, (self.vip(service), 53), (self.pod(service, endpoint), TARGET))


def without(local: LocalService, *keys: str) -> LocalService:
    return LocalService(local.service, {k: e for k, e in local.endpoints.items() if k not in keys})


class Bench:
    """A reconciler that knows some services, and a table with flows to their endpoints, spread evenly."""

    def __init__(self, cluster: Cluster, services: int, endpoints: int, flows: int) -> None:
        self._runner = asyncio.Runner()
        self._reconciler = ConntrackReconciler()
        local = (cluster.service(number, endpoints) for number in range(services))
        self._state: State = {one.service.key: one for one in local}
        ends = cycle((number, n) for n in range(endpoints) for number in range(services))
        make_flows([cluster.flow(client, *end) for client, end in zip(clients(flows), ends, strict=False)])

    def _take(self, changes: ChangeSet) -> Pass:
        self._reconciler.note(changes)
        start = time.perf_counter()
        removed = self._runner.run(self._reconciler.reconcile())
        return Pass((time.perf_counter() - start) * 1e3, removed)

    def start(self) -> Pass:
        """Of a new process, which knows nothing yet."""
        self._reconciler.close()
        self._reconciler = ConntrackReconciler()
        return self._take(ChangeSet({key: ServiceChange(None, local) for key, local in self._state.items()}, True))

    def change(self, number: int, new: LocalService | None) -> Pass:
        key = ServiceKey("bench", f"service-{number}")
        old = self._state.pop(key)
        if new is not None:
            self._state[key] = new
        return self._take(ChangeSet({key: ServiceChange(old, new)}))

    def forget(self, number: int, endpoint: str) -> None:
        """Lose an endpoint while nobody looks."""
        key = ServiceKey("bench", f"service-{number}")
        self._state[key] = without(self._state[key], endpoint)

    def close(self) -> None:
        self._reconciler.close()
        self._runner.close()


def measure(cluster: Cluster, flows: int, stale: int, rounds: int) -> dict[str, list[Pass]]:
    services = flows // (stale * ENDPOINTS)
    first, second = (
        range(min(rounds, services // 2)),
        range(services // 2, services // 2 + min(rounds, services // 2)),
    )
    bench = Bench(cluster, services, ENDPOINTS, flows)
    whole = [cluster.service(number, ENDPOINTS) for number in range(services)]
    passes = {"start": [bench.start() for _ in range(2)]}
    passes["endpoint_gone"] = [bench.change(n, without(whole[n], "e0")) for n in first]
    passes["endpoint_added"] = [bench.change(n, whole[n]) for n in first]
    passes["endpoint_gone_without_flows"] = [bench.change(n, without(whole[n], "e0")) for n in first]
    passes["service_gone"] = [bench.change(n, None) for n in second]
    bench.forget(0, "e1")
    passes["start_after_loss"] = [bench.start()]
    bench.close()
    return passes


def measure_hot(cluster: Cluster, flows: int, stale: int, rounds: int) -> dict[str, list[Pass]]:
    bench = Bench(cluster, 1, flows // stale, flows)
    bench.start()
    rest = [cluster.service(0, flows // stale)]
    for number in range(rounds):
        rest.append(without(rest[-1], f"e{number}"))
    passes = {"hot_endpoint_gone": [bench.change(0, local) for local in rest[1:]]}
    if not cluster.prefix:
        passes["kernel_filtered_delete"] = [kernel_delete(cluster, rounds + number) for number in range(rounds)]
    bench.close()
    return passes


def kernel_delete(cluster: Cluster, endpoint: int) -> Pass:
    """One delete with a filter; -1 ms where the kernel has no such thing."""
    answer = socket_address(cluster.pod(0, endpoint), TARGET)
    query = Query(socket.AF_INET6 if cluster.prefix else socket.AF_INET, answered_by=answer)
    before = tracked()
    netfilter = NetfilterSocket()
    start = time.perf_counter()
    refused = netfilter.send_all([message(Kind.DELETE, 0, get_flows(query)[HEADER.size :])])
    milliseconds = (time.perf_counter() - start) * 1e3
    netfilter.close()
    return Pass(-1 if refused else milliseconds, before - tracked())


def tracked() -> int:
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


def figures_of(passes: dict[str, list[Pass]]) -> Figures:
    figures: Figures = {}
    for name, found in passes.items():
        figures |= {
            f"{name}_p50_ms": statistics.median(one.milliseconds for one in found),
            f"{name}_max_ms": max(one.milliseconds for one in found),
            f"{name}_removed": float(found[0].removed),
        }
    return figures


def main() -> None:
    flags = parser(__doc__, flows=100_000, stale=1000, rounds=8)  # stale: flows to one endpoint
    flags.add_argument("--ipv6", action="store_true")
    given = flags.parse_args()
    cluster = Cluster("fd00::" if given.ipv6 else "")
    figures: Figures = {}
    with stoppable():
        for number, part in enumerate((measure, measure_hot)):
            with Namespace(f"kpt-bench-{os.getpid()}-{number}") as namespace, namespace.executor() as inside:
                passes = inside.submit(part, cluster, given.flows, given.stale, given.rounds).result()
                figures |= figures_of(passes)
        report("conntrack", given, figures)


if __name__ == "__main__":
    main()
