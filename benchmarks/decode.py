"""From the bytes an API server sends to the store: decoding, checking, converting, storing; in one thread.

The way is the real one (`Reflector`, `Intake`, `Store`), for both kinds of initial lists: pages of 500, and the
lines of a WatchList; the best of some rounds each. ``services_per_s`` is the slower of the two; a service is a
Service with its EndpointSlices. Then single watch events, each committed on its own, into the full store. Times are
of the processor. Peers do less: ``json`` makes dicts of the pages, the official client models (``--client``).
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import msgspec

from kpng.kube.bulk import bulk_load
from kpng.kube.convert import Converter, Filters
from kpng.kube.intake import service_intake, slice_intake
from kpng.kube.lines import LineSplitter
from kpng.kube.objects import EndpointSlice, Service
from kpng.kube.reflector import PAGE_SIZE, Phase, Receiver, Reflector
from kpng.kube.resource import resources
from kpng.load import Churn, Shape, watch_line, watch_lines
from kpng.load.bodies import Kind, items
from kpng.model import ProblemLog
from kpng.store import Store

from .harness import Figures, parser, report

T = TypeVar("T")

_CHUNK = 1 << 17  # as a socket gives them under load
_ROUNDS = 4
_EVENTS = 10_000
_MEASURED = 2000  # services that memory is measured with
_CLIENT_SAMPLE = 500
_KINDS: tuple[Kind, Kind] = ("Service", "EndpointSlice")
_END = (
    b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9000000",'
    b'"annotations":{"k8s.io/initial-events-end":"true"}}}}\n'
)


class Brain:
    """A store and what fills it, but for the connections."""

    def __init__(self) -> None:
        self.store, self.problems = Store(), ProblemLog()
        converter, found = Converter(Filters(), "http://api"), resources(Filters())
        self.reflectors = (
            Reflector(found[0], service_intake(self.store, converter, self.problems)),
            Reflector(found[1], slice_intake(self.store, converter, self.problems)),
        )

    def check(self, shape: Shape) -> None:
        """Whether all is there that should be."""
        assert len(self.problems) == 0, self.problems.current[:3]
        assert len(self.store.snapshot.services) == shape.services

    def lists(self, pages: Iterable[list[bytes]]) -> None:
        for reflector, bodies in zip(self.reflectors, pages, strict=True):
            reflector.failed(422)  # no WatchList here
            for body in bodies:
                reflector.page(body)
            assert reflector.phase is Phase.WATCH

    def watch_lists(self, streams: Iterable[list[bytes]]) -> None:
        for reflector, chunks in zip(self.reflectors, streams, strict=True):
            splitter = LineSplitter()
            for chunk in chunks:
                reflector.lines(splitter.feed(chunk))
            assert reflector.phase is Phase.WATCH


def main() -> None:
    flags = parser(__doc__, services=50_000, endpoints=1)
    flags.add_argument("--client", action="store_true", help="also measure the official Kubernetes client")
    given = flags.parse_args()
    shape = Shape(services=given.services, endpoints=given.endpoints, nodes=1000, namespaces=50, hints=True)
    served = [list(items(shape, kind)) for kind in _KINDS]
    say(f"{sum(map(len, itertools.chain(*served))) / 2**20:.0f} MiB of JSON")
    figures = loads(shape, served) | stages(served) | memory(given.endpoints)
    report("decode", given, figures, peers(given, shape, served))


def loads(shape: Shape, served: list[list[bytes]]) -> Figures:
    """Initial lists of both kinds in turn, then events into what came of the last."""
    pages = [list(paged(objects)) for objects in served]
    streams = [list(chunked(objects)) for objects in served]
    best = {"page": 0.0, "watch_list": 0.0}
    for number in range(_ROUNDS):
        say(f"initial lists, round {number + 1} of {_ROUNDS}")
        for name, before in best.items():
            brain = Brain()
            load = partial(brain.lists, pages) if name == "page" else partial(brain.watch_lists, streams)
            best[name] = max(before, shape.services / seconds(load))
            brain.check(shape)
    return {
        "services_per_s": min(best.values()),
        **{f"{name}_services_per_s": rate for name, rate in best.items()},
        "events_per_s": events(brain, shape),
    }


def events(brain: Brain, shape: Shape) -> float:
    """Single events a second: one endpoint of one service differs, one revision each."""
    say("single events")
    lines = [line.rstrip() for line in watch_lines(itertools.islice(Churn(shape), _EVENTS))]
    before = brain.store.snapshot.revision
    watch = brain.reflectors[1]
    taken = seconds(lambda: feed(watch, lines))
    assert brain.store.snapshot.revision - before == len(lines)
    return len(lines) / taken


def feed(watch: Reflector, lines: Iterable[bytes]) -> None:
    for line in lines:
        watch.lines([line])


def stages(served: list[list[bytes]]) -> Figures:
    """Microseconds a service in each stage, one after the other (so the sum is a little more than the whole)."""
    say("stages")
    store, converter, problems = Store(), Converter(Filters(), ""), ProblemLog()
    services, slices = served
    spent = (
        stage(Service, converter.service, service_intake(store, converter, problems), services),
        stage(EndpointSlice, converter.slice, slice_intake(store, converter, problems), slices),
    )
    names = ("decode_us", "convert_us", "store_us")
    return {
        name: sum(each) / len(services) * 1e6 for name, each in zip(names, zip(*spent, strict=True), strict=True)
    }


def stage(
    cls: type[T], convert: Callable[[T], object], intake: Receiver, objects: list[bytes]
) -> tuple[float, float, float]:
    """Seconds to decode, convert and store."""
    decode, decoded = msgspec.json.Decoder(cls).decode, list[T]()
    with bulk_load():
        for raw in objects:
            intake.set(msgspec.Raw(raw))
        return (
            seconds(lambda: decoded.extend(map(decode, objects))),
            seconds(lambda: list(map(convert, decoded))),
            seconds(lambda: intake.commit(replace=True)),
        )


def memory(endpoints: int) -> Figures:
    """Bytes that stay of a service, with what belongs to it; and of one endpoint more."""
    say("memory")
    few, many = held(endpoints), held(endpoints + 10)
    return {"bytes_per_service": few / _MEASURED, "bytes_per_endpoint": (many - few) / _MEASURED / 10}


def held(endpoints: int) -> int:
    shape = Shape(services=_MEASURED, endpoints=endpoints, nodes=1000, namespaces=50, hints=True)
    streams = [list(chunked(list(items(shape, kind)))) for kind in _KINDS]
    brain = Brain()
    tracemalloc.start()
    brain.watch_lists(streams)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size


def peers(given: argparse.Namespace, shape: Shape, served: list[list[bytes]]) -> dict[str, Figures]:
    """What others take for the same bytes, without checking or storing anything."""
    from json import loads as parse  # noqa: PLC0415

    say("peers")
    pages = [page for objects in served for page in paged(objects)]
    found = {"json": {"page_services_per_s": shape.services / seconds(lambda: [parse(page) for page in pages])}}
    if given.client:
        found["kubernetes client"] = {"page_services_per_s": _CLIENT_SAMPLE / seconds(official(served))}
    return found


def official(served: list[list[bytes]]) -> Callable[[], object]:
    """The official client's models of a sample."""
    from kubernetes import client  # noqa: PLC0415

    api = client.ApiClient()
    bodies = [
        (next(iter(paged(objects[:_CLIENT_SAMPLE]))).decode(), kind)
        for objects, kind in zip(served, ("V1ServiceList", "V1EndpointSliceList"), strict=True)
    ]
    return lambda: [api.deserialize(body, kind, "application/json") for body, kind in bodies]


def paged(objects: list[bytes]) -> Iterable[bytes]:
    for start in range(0, len(objects), PAGE_SIZE):
        token = b"more" if start + PAGE_SIZE < len(objects) else b""
        listed = b",".join(objects[start : start + PAGE_SIZE])
        yield b'{"metadata":{"resourceVersion":"9000000","continue":"%s"},"items":[%s]}' % (token, listed)


def chunked(objects: list[bytes]) -> Iterable[bytes]:
    stream = b"".join(watch_line(b"ADDED", each) for each in objects) + _END
    return (stream[start : start + _CHUNK] for start in range(0, len(stream), _CHUNK))


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started


def say(what: str) -> None:
    print(what, file=sys.stderr)


if __name__ == "__main__":
    main()
