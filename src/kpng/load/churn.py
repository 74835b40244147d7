"""What happens to a cluster's endpoints in time: pods replaced, services scaled and rolled out, flapping readiness.

Pure and seeded: the same shape and seed give the same changes. Only services that something has happened to cost
memory.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Literal, NamedTuple

from kpng.model import UserError

from .objects import Object, Pod, State, first_pods, slice_object
from .shape import Shape

KINDS = ("endpoints", "rolling", "scale", "flap")
_AT_ONCE = 10
"""So many services are being rolled out, and so many flap, at the same time."""


class Write(NamedTuple):
    """One request to an API server."""

    verb: Literal["create", "update", "delete"]
    object: Object


class Change(NamedTuple):
    """One thing that happens: with dual stack it is two writes, one for each family."""

    kind: str
    service: int
    writes: tuple[Write, ...]


Story = Iterator[Change]
"""What happens to one service, step by step."""


class _Slices:
    """The pods of one service, as they are spread over its slices."""

    def __init__(self, pods: Sequence[Pod], size: int) -> None:
        starts = range(0, max(len(pods), 1), size)
        self.pods = {number: list(pods[start : start + size]) for number, start in enumerate(starts)}
        self.next = len(self.pods)
        self._size = size

    @property
    def all(self) -> list[Pod]:
        return list(chain.from_iterable(self.pods.values()))

    def with_room(self) -> int:
        """The number of the first slice that is not full; a new one's if all are."""
        for number, pods in self.pods.items():
            if len(pods) < self._size:
                return number
        self.pods[self.next] = []
        self.next += 1
        return self.next - 1

    def of(self, serial: int) -> int:
        return next(number for number, pods in self.pods.items() if any(pod.serial == serial for pod in pods))


class Churn:
    """The cluster of a shape as it goes on. Iterate it for endless changes of ``kinds``, over all services."""

    def __init__(self, shape: Shape, kinds: Sequence[str] = KINDS, seed: int = 0) -> None:
        if not shape.endpoints and not {"endpoints", "scale"} & set(kinds):
            raise UserError(f"there are no endpoints, so that nothing can happen to them ({', '.join(kinds)})")
        self.shape = shape
        self._random = random.Random(seed)
        self._touched: dict[int, _Slices] = {}
        self._next = shape.total
        tellings: dict[str, Callable[[int], Story]] = {
            "endpoints": self._replace_one,
            "rolling": self.roll_out,
            "scale": self._scale_somehow,
            "flap": self.flap,
        }
        self._tellings = {kind: tellings[kind] for kind in kinds}
        self._stories: dict[str, deque[tuple[int, Story]]] = {kind: deque() for kind in kinds}
        self._busy: set[int] = set()

    def __iter__(self) -> Iterator[Change]:
        while True:
            yield self.next()

    def next(self) -> Change:
        """The next change. Whether it is the first step of something or a later one is left to chance."""
        while True:
            kind = self._random.choice(tuple(self._stories))
            stories = self._stories[kind]
            if len(stories) < _AT_ONCE and len(self._busy) < self.shape.services:
                service = self._idle_service()
                stories.append((service, self._tellings[kind](service)))
            if stories and (change := self._go_on(stories)):
                return change

    def settle(self) -> Iterator[Change]:
        """Finish what has been begun, so that all endpoints are ready again."""
        for stories in self._stories.values():
            while stories:
                if change := self._go_on(stories):
                    yield change

    def _go_on(self, stories: deque[tuple[int, Story]]) -> Change | None:
        service, story = stories.popleft()
        change = next(story, None)
        if change is None:
            self._busy.discard(service)
        else:
            stories.append((service, story))
        return change

    def _idle_service(self) -> int:
        while (service := self._random.randrange(self.shape.services)) in self._busy:
            pass
        self._busy.add(service)
        return service

    def _replace_one(self, service: int) -> Story:
        yield self.replace(service)

    def _scale_somehow(self, service: int) -> Story:
        """Away from the number of the shape, or back to it."""
        more_than_at_first = len(self.pods(service)) - self.shape.endpoints
        yield self.scale(service, -more_than_at_first or self._random.randint(1, max(self.shape.endpoints // 2, 1)))

    # -- the present ---------------------------------------------------------------------------------------

    def pods(self, service: int) -> list[Pod]:
        """The pods a service has now."""
        touched = self._touched.get(service)
        return touched.all if touched else first_pods(self.shape, service)

    def slices(self, service: int) -> Iterator[Object]:
        """The EndpointSlices of a service as they are now."""
        for number, pods in self._of(service, keep=False).pods.items():
            for family in self.shape.families:
                yield slice_object(self.shape, service, number, pods, family)

    def endpoint_slices(self) -> Iterator[Object]:
        """The EndpointSlices of all services as they are now."""
        return chain.from_iterable(map(self.slices, range(self.shape.services)))

    def _of(self, service: int, *, keep: bool = True) -> _Slices:
        if found := self._touched.get(service):
            return found
        made = _Slices(first_pods(self.shape, service), self.shape.slice_size)
        if keep:
            self._touched[service] = made
        return made

    # -- what can happen -----------------------------------------------------------------------------------

    def replace(self, service: int) -> Change:
        """One pod, ready, is gone, and another one is ready in its place."""
        slices = self._of(service)
        if not slices.all:
            return self.scale(service, 1)
        number = slices.of(self._any_pod(slices).serial)
        pods = slices.pods[number]
        pods[self._random.randrange(len(pods))] = self._new_pod()
        return self._change("endpoints", service, slices, {number})

    def scale(self, service: int, by: int) -> Change:
        """So many pods more, or less."""
        slices, changed = self._of(service), set()
        before = set(slices.pods)
        for _ in range(by):
            number = slices.with_room()
            slices.pods[number].append(self._new_pod())
            changed.add(number)
        for pod in slices.all[by:] if by < 0 else ():
            changed.add(self._remove(slices, pod.serial))
        return self._change("scale", service, slices, changed, before)

    def flap(self, service: int) -> Story:
        """A pod is not ready, and then it is again."""
        slices = self._of(service)
        if slices.all:
            serial = self._any_pod(slices).serial
            yield self._turn("flap", service, serial, State.STARTING)
            yield self._turn("flap", service, serial, State.READY)

    def roll_out(self, service: int) -> Story:
        """Every pod gets a successor: it starts, is ready, the old one terminates, and is gone."""
        for old in self.pods(service):
            new = self._new_pod()
            yield self._add(service, Pod(new.serial, State.STARTING))
            yield self._turn("rolling", service, new.serial, State.READY)
            yield self._turn("rolling", service, old.serial, State.TERMINATING)
            slices = self._of(service)
            before = set(slices.pods)
            yield self._change("rolling", service, slices, {self._remove(slices, old.serial)}, before)

    def _add(self, service: int, pod: Pod) -> Change:
        slices = self._of(service)
        before = set(slices.pods)
        number = slices.with_room()
        slices.pods[number].append(pod)
        return self._change("rolling", service, slices, {number}, before)

    def _turn(self, kind: str, service: int, serial: int, state: State) -> Change:
        slices = self._of(service)
        number = slices.of(serial)
        slices.pods[number] = [Pod(serial, state) if pod.serial == serial else pod for pod in slices.pods[number]]
        return self._change(kind, service, slices, {number})

    def _remove(self, slices: _Slices, serial: int) -> int:
        """Take a pod out; a slice left empty goes, unless it is the only one."""
        number = slices.of(serial)
        slices.pods[number] = [pod for pod in slices.pods[number] if pod.serial != serial]
        if not slices.pods[number] and len(slices.pods) > 1:
            del slices.pods[number]
        return number

    def _any_pod(self, slices: _Slices) -> Pod:
        return self._random.choice(slices.all)

    def _new_pod(self) -> Pod:
        """A pod that there was never before (until all addresses have been used)."""
        serial = self._next
        self._next = serial + 1 if serial + 1 < self.shape.places else self.shape.total
        return Pod(serial)

    def _change(
        self, kind: str, service: int, slices: _Slices, changed: set[int], before: set[int] | None = None
    ) -> Change:
        """The writes that make slices ``changed`` so; ``before``: those that there were, if not the same."""
        old = before if before is not None else changed
        return Change(
            kind,
            service,
            tuple(
                Write(
                    "delete" if number not in slices.pods else "update" if number in old else "create",
                    slice_object(self.shape, service, number, slices.pods.get(number, ()), family),
                )
                for number in sorted(changed)
                for family in self.shape.families
            ),
        )
