"""A load from beginning to end, against a target that remembers, and against an API server."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext

import pytest

from kpng.kube.access import Access
from kpng.lab.apiserver import ApiServer
from kpng.load import Churn, Shape, Site, Write, nodes
from kpng.load.progress import Tally
from kpng.load.run import Loader, LoadOptions, cleanup, with_existing_nodes
from kpng.load.writer import ApiWriter, NoAnswerError, WriteError
from kpng.model import UserError

SHAPE = Shape(services=20, endpoints=3, nodes=2)


class Recorder:
    """A target that takes its time, a different one for each write, and refuses one name."""

    def __init__(self, pause: float = 0.0, refused: str = "") -> None:
        self.written: list[Write] = []
        self.at_once = self.most_at_once = 0
        self._pause, self._refused = pause, refused

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def write(self, write: Write) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._pause * (len(self.written) % 3))
        self.at_once -= 1
        if write.object["metadata"]["name"] == self._refused:
            raise WriteError(422, "no")
        self.written.append(write)


def loader(target: Recorder, tally: Tally | None = None, **options: float) -> Loader:
    return Loader(target, Churn(SHAPE), tally or Tally(), LoadOptions(workers=4, **options))  # type: ignore[arg-type]


async def test_makes_one_kind_after_the_other() -> None:
    target, tally = Recorder(0.0001), Tally()
    await loader(target, tally).make()
    kinds = [write.object["kind"] for write in target.written]
    assert kinds == ["Namespace"] + ["Node"] * 2 + ["Service"] * 20 + ["EndpointSlice"] * 20
    assert tally.objects == len(kinds)
    assert tally.phase.line(0.0).startswith("endpoint slices 20/20 (100 %)")


async def test_makes_no_nodes_where_there_are_some() -> None:
    target = Recorder()
    shape = Shape(services=2, sites=(Site("a", ""),))
    await Loader(target, Churn(shape), Tally(), LoadOptions()).make(with_namespaces=False)
    assert {write.object["kind"] for write in target.written} == {"Service", "EndpointSlice"}


async def test_writes_no_more_at_once_than_allowed() -> None:
    target = Recorder(0.001)
    await loader(target).make()
    assert target.most_at_once == 4


async def test_changes_at_the_rate_for_the_time() -> None:
    target, tally = Recorder(), Tally()
    began = time.monotonic()
    await loader(target, tally, rate=100, seconds=0.5).change()
    assert 0.45 < time.monotonic() - began < 2.0
    assert tally.changes == len(target.written) == 50
    assert tally.summary().rate > 25


async def test_what_happens_to_a_service_stays_in_order() -> None:
    target = Recorder(0.002)
    await loader(target, rate=2000, seconds=0.1).change()
    told = Churn(SHAPE)
    expected: dict[str, list[Write]] = {}
    for _ in target.written:
        for write in told.next().writes:
            expected.setdefault(write.object["metadata"]["name"], []).append(write)
    found: dict[str, list[Write]] = {}
    for write in target.written:
        found.setdefault(write.object["metadata"]["name"], []).append(write)
    assert found == expected


async def test_a_slow_target_slows_the_rate() -> None:
    """Nothing piles up in between, and nothing is left out."""
    target, tally = Recorder(0.02), Tally()
    await loader(target, tally, rate=1000, seconds=0.2).change()
    assert tally.changes == len(target.written)
    assert tally.summary().rate < 900


async def test_a_server_that_is_gone_ends_it() -> None:
    """Not one refusal for each of thousands of objects, after a minute each."""
    async with ApiWriter(Access("http://127.0.0.1:9"), patience=0.2) as writer:
        with pytest.raises(ExceptionGroup) as caught:
            await Loader(writer, Churn(SHAPE), Tally(), LoadOptions(workers=3)).make()
    assert caught.group_contains(NoAnswerError)


async def test_refused_writes_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    target, tally = Recorder(refused="kpng-load-00003"), Tally()
    runs = loader(target, tally)
    await runs.make()
    await runs.make()
    assert tally.errors == {"HTTP 422: no": 2}
    assert [record.getMessage() for record in caplog.records if "kpng.load" in record.name] == [
        "create of Service kpng-load-00003: HTTP 422: no"
    ]


async def test_cleanup_removes_what_was_made_and_nothing_else() -> None:
    server, tally = ApiServer(), Tally()
    mine, others = Shape(services=3, prefix="mine", nodes=1), Shape(services=2, prefix="others", nodes=1)
    await server.start()
    try:
        async with ApiWriter(Access(server.url)) as writer:
            for shape in (mine, others):
                shape_ = Shape(services=shape.services, prefix=shape.prefix, nodes=1, cluster_ips=False)
                await Loader(writer, Churn(shape_), Tally(), LoadOptions()).make()
            await cleanup(writer, "mine", tally)
        left = [thing["metadata"]["name"] for kind in ("Service", "Node") for thing in server.objects(kind)]
        assert sorted(left) == ["others-00000", "others-00001", "others-node-0000"]
        assert len(server.objects("EndpointSlice")) == 2
        assert tally.objects == 3 + 3 + 1 + 1
    finally:
        await server.stop()


async def test_existing_nodes_are_used_with_their_zones() -> None:
    server = ApiServer()
    await server.start()
    try:
        async with ApiWriter(Access(server.url)) as writer:
            with pytest.raises(UserError, match=r"has no Nodes .* --nodes N makes some"):
                await with_existing_nodes(writer, SHAPE)
            server.load(nodes(Shape(nodes=2, zones=2)))
            shape = await with_existing_nodes(writer, SHAPE)
        assert shape.sites == (Site("kpng-load-node-0000", "zone-0"), Site("kpng-load-node-0001", "zone-1"))
    finally:
        await server.stop()
