"""nf_tables sets with and without a size: the kernel's fixed hash table beside the one that grows.

    python -m benchmarks.nft_sets --elements 100000 --json FILE

Needs root; works in network namespaces of its own. The map is that of endpoints, with chains bound to it: loaded
at once and read back; filled from nothing, ten elements a commit, past each size at which the growing table is
rehashed, and changed. What `kpng.backends.nft` chooses is told in its `ruleset.TableChange`.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.harness import Figures, parser, report, spread, stoppable
from kpng.backends.nft.encode import change_messages, table_messages
from kpng.backends.nft.layout import Layout
from kpng.backends.nft.options import parse_options
from kpng.backends.nft.ruleset import TABLE, TableChange
from kpng.host.nftables import Family as NftFamily
from kpng.host.nftables import Nftables, TableFlag
from kpng.lab.netns import Namespace
from kpng.model import Family

_ENDPOINTS = 10
_SETS = "endpoints"
_INDEX = struct.Struct("=I")
Elements = dict[bytes, bytes]


class Map:
    """The map of endpoints in a table of kpng's; ``size`` 0: it grows."""

    def __init__(self, size: int) -> None:
        self._layout = Layout(Family.IPV4, parse_options())
        self._connection = Nftables()
        sizes = {_SETS: size} if size else {}
        self._connection.commit(list(table_messages(self._layout, TableFlag.NONE, sizes=sizes)))
        for count in range(1, 33):
            self.bind(count)

    def bind(self, count: int) -> float:
        """Make a chain that looks up the map; gives the seconds."""
        new = ("classes", _INDEX.pack(count), self._layout.class_chain("", count))
        return self._commit(TableChange([new], [], {}, {}))

    def add(self, elements: Elements) -> float:
        return self._commit(TableChange([], [], {}, {_SETS: elements}))

    def replace(self, elements: Elements) -> float:
        return self._commit(TableChange([], [], {_SETS: elements}, {_SETS: elements}))

    def read(self) -> float:
        start = time.perf_counter()
        assert any(self._connection.elements(NftFamily.IPV4, TABLE, _SETS))
        return time.perf_counter() - start

    def close(self) -> None:
        self._connection.close()

    def _commit(self, change: TableChange) -> float:
        parts = list(change_messages(self._layout, change))
        start = time.perf_counter()
        self._connection.commit(parts)
        return time.perf_counter() - start


def services(elements: int) -> Iterator[Elements]:
    """The elements of one service after the other."""
    for number in range(elements // _ENDPOINTS):
        key = bytes((10, 96 + (number >> 16), number >> 8 & 255, number & 255, 6, 0, 0, 0, 0, 80, 0, 0))
        endpoint = struct.pack(">IH2x", (10 << 24 | 128 << 16) + number, 8080)
        yield {key + _INDEX.pack(index): endpoint for index in range(_ENDPOINTS)}


def measure_load(size: int, elements: int) -> Figures:
    made = Map(size)
    everything = {key: data for service in services(elements) for key, data in service.items()}
    figures = {"load_ms": made.add(everything) * 1e3, "read_ms": made.read() * 1e3}
    made.close()
    return figures


def measure_growth(size: int, elements: int) -> Figures:
    made = Map(size)
    added = [made.add(service) for service in services(elements)]
    changed = [made.replace(dict([next(iter(service.items()))])) for service in services(elements // 10)]
    bound = made.bind(33)
    made.close()
    return {
        **spread("add", added),
        "add_max_ms": max(added) * 1e3,
        **spread("replace", changed),
        "bind_chain_ms": bound * 1e3,
    }


def measure(parts: Sequence[Callable[[int], Figures]], size: int) -> Figures:
    figures: Figures = {}
    for number, part in enumerate(parts):
        with Namespace(f"kpt-bench-{os.getpid()}-{number}") as namespace:
            figures |= namespace.call(partial(part, size))
    return figures


def main() -> None:
    given = parser(__doc__, elements=100_000).parse_args()
    parts = [partial(part, elements=given.elements) for part in (measure_load, measure_growth)]
    with stoppable():
        print("  with a size", file=sys.stderr, flush=True)
        sized = measure(parts, 1 << (2 * given.elements - 1).bit_length())
        print("  growing", file=sys.stderr, flush=True)
        report("nft_sets", given, sized, {"growing": measure(parts, 0)})


if __name__ == "__main__":
    main()
