"""kube-proxy's nftables layout, reproduced and loaded by ``nft -f``: what its rules cost, whoever writes them.

In 1.36 there is a chain for each service port with an anonymous map in each; earlier versions had a chain for each
endpoint too. Everything is loaded in one transaction, as kube-proxy does at its start; the cost grows with the
square of the number of services.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.harness import Figures
from kpng.lab.netns import Namespace
from kpng.load import Shape

_FIXED = """\
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

_CHANGES = 5


class Backed(NamedTuple):
    """A service: its name, its address, its endpoints' addresses."""

    name: str
    address: str
    endpoints: tuple[str, ...]

    @property
    def chain(self) -> str:
        return f"service-ABCDEFGH-{self.name}/tcp/http"

    def replaced(self, address: str) -> Backed:
        """The first endpoint is another one."""
        return self._replace(endpoints=(address, *self.endpoints[1:]))


Chains = dict[str, str]
"""The text of the one rule of each chain, by the chain's name."""
Layout = Callable[[Backed], Chains]


def chains_with_map(service: Backed) -> Chains:
    slots = ", ".join(f"{index} : {address} . 8080" for index, address in enumerate(service.endpoints))
    to = f"numgen random mod {len(service.endpoints)} map {{ {slots} }}"
    return {service.chain: f"meta l4proto tcp dnat ip addr . port to {to}"}


def chains_of_endpoints(service: Backed) -> Chains:
    ends = service.endpoints
    chains = {f"endpoint-{service.chain}__{a}/8080": f"meta l4proto tcp dnat to {a}:8080" for a in ends}
    slots = ", ".join(f"{index} : goto {name}" for index, name in enumerate(chains))
    return {**chains, service.chain: f"numgen random mod {len(ends)} vmap {{ {slots} }}"}


LAYOUTS: dict[str, Layout] = {"1.36": chains_with_map, "before": chains_of_endpoints}


def measure(namespace: Namespace, layout: Layout, shape: Shape) -> Figures:
    """Load a cluster of a shape, then replace single endpoints."""
    services = list(cluster(shape))
    load = nft(namespace, "".join(ruleset(services, layout)), f"{shape.services} services")
    changes = []
    for number, service in enumerate(random.Random(2).sample(services, min(_CHANGES, len(services)))):
        changed = service.replaced(f"10.127.0.{number}")
        changes.append(nft(namespace, "".join(change(layout(service), layout(changed))), "change"))
    return {"cold_start_s": load, "change_p50_ms": statistics.median(changes) * 1e3}


def cluster(shape: Shape) -> Iterator[Backed]:
    for number in range(shape.services):
        first = number * shape.endpoints
        addresses = (shape.pod_address(first + n, "IPv4") for n in range(shape.endpoints))
        name = f"{shape.namespace(number)}/{shape.service_name(number)}"
        yield Backed(name, shape.cluster_ip(number, "IPv4"), tuple(addresses))


def ruleset(services: list[Backed], layout: Layout) -> Iterator[str]:
    yield _FIXED
    yield "table ip peer {\n"
    for service in services:
        for name, rule in layout(service).items():
            yield f"  chain {name} {{ {rule}; }}\n"
    yield "}\n"
    for service in services:
        yield f"add element ip peer cluster-ips {{ {service.address} }}\n"
        yield f"add element ip peer service-ips {{ {service.address} . tcp . 80 : goto {service.chain} }}\n"


def change(before: Chains, after: Chains) -> Iterator[str]:
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
