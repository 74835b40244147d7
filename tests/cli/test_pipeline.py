"""The grammar SOURCE SINK [+ SINK ...], and running it."""

from __future__ import annotations

import asyncio

import pytest

from kpng.cli.pipeline import pipeline, split_sinks, wanted_by
from kpng.cli.sink import Sink
from kpng.model import ProblemLog, Service, UserError
from kpng.store import Kind, Store


@pytest.mark.parametrize(
    ("words", "segments"),
    [
        ("", [[]]),
        ("to-api", [["to-api"]]),
        ("-i x to-api --listen y", [["-i", "x", "to-api", "--listen", "y"]]),
        ("to-api + to-local to-nft", [["to-api"], ["to-local", "to-nft"]]),
        ("a + b + c", [["a"], ["b"], ["c"]]),
        ("a +", [["a"], []]),
        ("+ a", [[], ["a"]]),
        ("a + + b", [["a"], [], ["b"]]),
    ],
)
def test_split_sinks(words: str, segments: list[list[str]]) -> None:
    assert list(split_sinks(words.split())) == segments


class OneService:
    """A source that ends at once."""

    async def run(self, store: Store) -> None:
        with store.transaction() as tx:
            tx.set_service(Service(namespace="demo", name="web"))
            tx.mark_synced(*Kind)


class Failing:
    async def run(self, store: Store) -> None:
        raise UserError("no such file")


async def test_a_source_that_ends_leaves_its_state_to_the_sinks() -> None:
    seen = []

    async def sink(store: Store) -> None:
        await asyncio.sleep(0.01)
        seen.append([str(key) for key in store.snapshot.services])

    await pipeline(OneService(), [Sink(sink), Sink(sink)], ProblemLog())
    assert seen == [["demo/web"], ["demo/web"]]


async def test_ends_when_all_sinks_are_done_though_the_source_goes_on() -> None:
    class Endless:
        async def run(self, store: Store) -> None:
            await asyncio.Event().wait()

    async def sink(store: Store) -> None:
        await asyncio.sleep(0)

    await asyncio.wait_for(pipeline(Endless(), [Sink(sink)], ProblemLog()), 1)


async def test_a_failing_source_ends_everything() -> None:
    ended = []

    async def sink(store: Store) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(ExceptionGroup) as caught:
        await pipeline(Failing(), [Sink(sink), Sink(sink)], ProblemLog())
    assert caught.group_contains(UserError, match="no such file")
    assert ended == [True, True]


async def test_a_failing_sink_ends_the_others() -> None:
    async def waits(store: Store) -> None:
        await asyncio.Event().wait()

    async def fails(store: Store) -> None:
        raise UserError("port in use")

    with pytest.raises(ExceptionGroup) as caught:
        await pipeline(OneService(), [Sink(waits), Sink(fails)], ProblemLog())
    assert caught.group_contains(UserError, match="port in use")


async def nothing(store: Store) -> None: ...


@pytest.mark.parametrize(
    ("sinks", "once", "node"),
    [
        ([Sink(nothing)], False, ""),
        ([Sink(nothing, once=True, node="n1")], True, "n1"),
        ([Sink(nothing, node="n1"), Sink(nothing, once=True, node="n1")], False, "n1"),
        ([Sink(nothing, node="n1"), Sink(nothing, node="n2")], False, ""),
        ([Sink(nothing, node="n1"), Sink(nothing)], False, ""),
    ],
)
def test_what_the_sinks_want_of_the_source(sinks: list[Sink], once: bool, node: str) -> None:
    """A source may do with one Node only if no sink needs another: an API server tells so much of each of them."""
    assert wanted_by(sinks) == (once, node)
