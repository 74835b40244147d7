"""From the store to what each node must do: all services for the first node, for others, and after a change.

    python -m benchmarks.localize --services 10000 --endpoints 10 --json FILE

Beside it, in the same run, the cost of working out each node's whole state at each change, as the Go kpng does.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

from benchmarks.brain_rig import Brain
from benchmarks.harness import Figures, parser, report
from kpng.load import Shape
from kpng.localize import Difference, Place, bucket_answers, changes_between, place_of
from kpng.store import Snapshot


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def whole(snapshot: Snapshot, node: str) -> int:
    """All of a node's state by itself; returns how many services it has."""
    return sum(1 for found in changes_between(Place(), place_of(snapshot, node)) if found)


def shared(snapshot: Snapshot, zone: str) -> int:
    """What all nodes of a zone share; returns how many services it is."""
    buckets = [bucket_answers(bucket) for bucket in snapshot.services.buckets]
    return len([answers.shared(zone) for bucket in buckets for answers in bucket.answers.values()])


def own(snapshot: Snapshot, node: str, zone: str) -> int:
    """What one node has for itself, where the shared answers are there."""
    return sum(1 for bucket in snapshot.services.buckets for _ in bucket_answers(bucket).own(node, zone))


def told(difference: Difference, names: Iterable[str]) -> int:
    """What a change is for each node; returns how many answers had to be made for it."""
    views = {difference.view(name, "") for name in names}
    for view in views:
        for _ in difference.changes(view):
            pass
    return len(views)


def measure(brain: Brain, given: argparse.Namespace) -> tuple[Figures, Figures]:
    shape, store = brain.shape, brain.store
    names = [shape.site(number).name for number in range(shape.node_count)]
    some = random.Random(1).sample(names, min(50, len(names)))
    services = shape.services
    first = seconds(lambda: shared(store.snapshot, ""))
    nodes = [seconds(partial(own, store.snapshot, name, "")) for name in some]
    naive = statistics.median(seconds(partial(whole, store.snapshot, name)) for name in some[:3])
    changes, views = [], []
    for lines in brain.heard(brain.churn.replace(number) for number in range(min(given.changes, services))):
        old = store.snapshot
        brain.hear(lines)
        start = time.perf_counter()
        views.append(told(Difference.between(old, store.snapshot), names))
        changes.append(time.perf_counter() - start)
    figures = {
        "first_node_s": first,
        "services_per_s": services / first,
        "another_node_ms": statistics.median(nodes) * 1e3,
        "change_all_nodes_ms": statistics.median(changes) * 1e3,
        "answers_per_change": statistics.mean(views),
    }
    peer = {"another_node_ms": naive * 1e3, "change_all_nodes_ms": naive * shape.node_count * 1e3}
    return figures, peer


def main() -> None:
    flags = parser(__doc__, services=10_000, endpoints=10, watchers=5000, changes=200)
    given = flags.parse_args()
    shape = Shape(services=given.services, endpoints=given.endpoints, nodes=given.watchers)
    print(f"  a cluster of {given.services} services, {shape.node_count} nodes", file=sys.stderr, flush=True)
    brain = Brain(shape)
    gc.collect()
    gc.freeze()
    figures, peer = measure(brain, given)
    report("localize", given, figures, {"whole, for each node": peer})


if __name__ == "__main__":
    main()
