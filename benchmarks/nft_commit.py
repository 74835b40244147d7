"""Commits to nf_tables: the nft backend beside a ruleset in kube-proxy's layout through ``nft -f``.

    python -m benchmarks.nft_commit --services 10000 --endpoints 10 --json FILE

Needs root; works in a network namespace of its own. kube-proxy's layout is a reproduction of its rules (in 1.36 a
chain for each service port, an anonymous map in each; ``--peer-layout`` has the one before), loaded in one
transaction; its cost grows with the square of the number of services, so ``--peer-services`` can be smaller.
Figures are of this machine and this run: what counts are the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kpng.backends.nft import NftBackend
from kpng.host.nftables import Nftables
from kpng.lab.netns import Namespace
from kpng.model import (
    ChangeSet,
    Endpoint,
    EndpointPort,
    IPSet,
    LocalService,
    PortMapping,
    Service,
    ServiceChange,
    ServiceKey,
)

Figures = dict[str, float]
State = dict[ServiceKey, LocalService]


def endpoint(number: int) -> Endpoint:
    address = f"10.{128 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return Endpoint(addresses=IPSet((address,)), ports=(EndpointPort("http", 8080),))


def cluster(services: int, endpoints: int) -> State:
    """Services at 172.16.0.0 and up, each with endpoints of its own."""
    state = {}
    for number in range(services):
        vip = f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        service = Service(
            namespace=f"team-{number % 50}",
            name=f"service-{number}",
            cluster_ips=IPSet((vip,)),
            ports=(PortMapping(80, name="http", available=1),),
        )
        first = number * endpoints
        state[service.key] = LocalService(
            service, {f"pod-{first + n}": endpoint(first + n) for n in range(endpoints)}
        )
    return state


class Clock:
    """Wraps a connection's commits and adds up what the kernel took."""

    def __init__(self, connection: Nftables) -> None:
        self.seconds = 0.0
        self.bytes = 0
        self._commit = connection.commit
        connection.commit = self  # type: ignore[method-assign]

    def __call__(self, parts: Sequence[bytes]) -> None:
        start = time.perf_counter()
        self._commit(parts)
        self.seconds += time.perf_counter() - start
        self.bytes += sum(map(len, parts))


def full(state: State) -> ChangeSet:
    return ChangeSet({key: ServiceChange(None, local) for key, local in state.items()}, full=True)


async def started() -> tuple[NftBackend, Clock]:
    backend = NftBackend()
    await backend.start()
    assert backend._connection is not None
    return backend, Clock(backend._connection)


async def measure_ours(services: int, endpoints: int, changes: int) -> Figures:
    state = cluster(services, endpoints)
    gc.collect()
    gc.freeze()
    everything = full(state)
    backend, clock = await started()
    start = time.perf_counter()
    await backend.apply(everything)
    figures = {
        "load_seconds": time.perf_counter() - start,
        "load_kernel_seconds": clock.seconds,
        "load_megabytes": clock.bytes / 1e6,
    }
    figures |= await _measure_changes(backend, clock, state, changes, "replace", _replaced)
    figures |= await _measure_changes(backend, clock, state, changes, "scale", _scaled)
    figures["rss_mib"] = resident_mib()
    await backend.stop()
    figures |= await _measure_restart(state)
    return figures


Change = Callable[[LocalService, int], LocalService]


def _replaced(local: LocalService, number: int) -> LocalService:
    endpoints = dict(local.endpoints)
    del endpoints[next(iter(endpoints))]
    endpoints[f"new-{number}"] = endpoint(0x400000 + number)
    return LocalService(local.service, endpoints)


def _scaled(local: LocalService, number: int) -> LocalService:
    """One endpoint less, or one more, in turn."""
    endpoints = dict(local.endpoints)
    if number % 2:
        endpoints[f"more-{number}"] = endpoint(0x500000 + number)
    elif len(endpoints) > 1:
        del endpoints[next(iter(endpoints))]
    return LocalService(local.service, endpoints)


async def _measure_changes(
    backend: NftBackend, clock: Clock, state: State, times: int, name: str, change: Change
) -> Figures:
    keys = random.Random(1).sample(list(state), min(times, len(state)))
    totals, kernels = [], []
    for number, key in enumerate(keys):
        new = change(state[key], number)
        before = clock.seconds
        start = time.perf_counter()
        await backend.apply(ChangeSet({key: ServiceChange(state[key], new)}))
        totals.append(time.perf_counter() - start)
        kernels.append(clock.seconds - before)
        state[key] = new
    return {
        f"{name}_p50_ms": statistics.median(totals) * 1e3,
        f"{name}_p99_ms": statistics.quantiles(totals, n=100)[98] * 1e3,
        f"{name}_kernel_p50_ms": statistics.median(kernels) * 1e3,
    }


async def _measure_restart(state: State) -> Figures:
    """Start again over what is there: nothing may be written."""
    backend, clock = await started()
    assert backend._connection is not None
    before = backend._connection.generation()
    start = time.perf_counter()
    await backend.apply(full(state))
    seconds = time.perf_counter() - start
    written = backend._connection.generation() - before
    start = time.perf_counter()
    assert backend._guard is not None
    await backend._guard.check()  # before its task has had a turn
    figures = {
        "restart_seconds": seconds,
        "restart_writes": float(written),
        "verification_seconds": time.perf_counter() - start,
    }
    assert clock.bytes == 0
    await backend.stop()
    return figures


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


PEER_FIXED = """\
table ip peer {
  set cluster-ips { type ipv4_addr; }
  set hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-nodeports { type inet_proto . inet_service : verdict; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain reject-chain { reject; }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
  }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain cluster-ips-check { ip daddr @cluster-ips reject; }
  chain masquerading {
    meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
    ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
  }
  chain filter-input { type filter hook input priority 0; ct state new jump service-endpoints-check; }
  chain filter-forward { type filter hook forward priority 0; ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check; }
  chain filter-output { type filter hook output priority 0; ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check; }
  chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
}
"""


def peer_chain(key: ServiceKey) -> str:
    return f"service-ABCDEFGH-{key.namespace}/{key.name}/tcp/http"


Chains = dict[str, str]
"""The text of the one rule of each chain, by the chain's name."""


def chains_with_map(local: LocalService) -> Chains:
    """As kube-proxy 1.36 writes them: a chain for each service port, with a map of the endpoints."""
    slots = (f"{index} : {found.addresses.v4[0]} . 8080" for index, found in enumerate(local.endpoints.values()))
    to = f"numgen random mod {len(local.endpoints)} map {{ {', '.join(slots)} }}"
    return {peer_chain(local.service.key): f"meta l4proto tcp dnat ip addr . port to {to}"}


def chains_of_endpoints(local: LocalService) -> Chains:
    """As earlier versions wrote them: a chain for each endpoint too."""
    chain = peer_chain(local.service.key)
    addresses = [found.addresses.v4[0] for found in local.endpoints.values()]
    chains = {f"endpoint-{chain}__{a}/8080": f"meta l4proto tcp dnat to {a}:8080" for a in addresses}
    slots = (f"{index} : goto {name}" for index, name in enumerate(chains))
    return {**chains, chain: f"numgen random mod {len(addresses)} vmap {{ {', '.join(slots)} }}"}


PEER_LAYOUTS = {"1.36": chains_with_map, "endpoint-chains": chains_of_endpoints}
PeerLayout = Callable[[LocalService], Chains]


def peer_ruleset(state: State, layout: PeerLayout) -> Iterator[str]:
    yield PEER_FIXED
    yield "table ip peer {\n"
    for local in state.values():
        for name, rule in layout(local).items():
            yield f"  chain {name} {{ {rule}; }}\n"
    yield "}\n"
    for key, local in state.items():
        vip = local.service.cluster_ips.v4[0]
        yield f"add element ip peer cluster-ips {{ {vip} }}\n"
        yield f"add element ip peer service-ips {{ {vip} . tcp . 80 : goto {peer_chain(key)} }}\n"


def peer_change(before: Chains, after: Chains) -> Iterator[str]:
    for name, rule in after.items():
        if name not in before:
            yield f"add chain ip peer {name}\n"
        if before.get(name) != rule:
            yield f"flush chain ip peer {name}\nadd rule ip peer {name} {rule}\n"
    for name in before.keys() - after.keys():
        yield f"flush chain ip peer {name}\ndelete chain ip peer {name}\n"


def nft(namespace: Namespace, text: str, what: str) -> float:
    """Load text with ``nft -f``; gives the seconds it took, and says now and then that it still runs."""
    start = time.perf_counter()
    with subprocess.Popen(namespace.argv("nft", "-f", "-"), stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        while process.poll() is None:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                print(f"  {what}: {time.perf_counter() - start:.0f} s so far", file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(f"nft failed: {process.returncode}")
    return time.perf_counter() - start


def measure_peer(namespace: Namespace, layout: PeerLayout, services: int, endpoints: int, changes: int) -> Figures:
    state = cluster(services, endpoints)
    text = "".join(peer_ruleset(state, layout))
    load = nft(namespace, text, f"kube-proxy's layout, {services} services")
    keys = random.Random(2).sample(list(state), min(changes, len(state)))
    totals = []
    for number, key in enumerate(keys):
        change = peer_change(layout(state[key]), layout(_replaced(state[key], number)))
        totals.append(nft(namespace, "".join(change), "change"))
    return {"load_seconds": load, "replace_p50_ms": statistics.median(totals) * 1e3}


def show(ours: Figures, peer: Figures | None, peer_services: int) -> None:
    head = f"kube-proxy's layout ({peer_services} services)"
    print(f"{'':28}{'kpng':>12}{head if peer else '':>38}{'ratio' if peer else '':>10}")
    for name, value in ours.items():
        other = peer.get(name) if peer else None
        compared = f"{other:>38.2f}{other / value:>9.0f}x" if other is not None and value else ""
        print(f"{name:28}{value:>12.3f}{compared}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--changes", type=int, default=200, help="how many single changes to time")
    parser.add_argument("--peer-services", type=int, help="kube-proxy's layout with so many; 0: not at all")
    parser.add_argument(
        "--peer-layout", choices=PEER_LAYOUTS, default="1.36", help="of kube-proxy 1.36, or of earlier versions"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    peer_services = given.services if given.peer_services is None else given.peer_services
    with Namespace(f"kpt-bench-{os.getpid()}") as namespace, namespace.executor() as inside:
        ours = inside.submit(asyncio.run, measure_ours(given.services, given.endpoints, given.changes)).result()
        layout = PEER_LAYOUTS[given.peer_layout]
        peer = measure_peer(namespace, layout, peer_services, given.endpoints, 5) if peer_services else None
    show(ours, peer, peer_services)
    if given.json:
        params = {name: value for name, value in vars(given).items() if name != "json"}
        figures = {"kpng": ours, "kube_proxy_layout": peer}
        given.json.write_text(json.dumps({"name": "nft_commit", "params": params, "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
