"""``SOURCE SINK [+ SINK ...]``: one source fills the store, any number of sinks take it on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import click

from kpng.localize import Auditor
from kpng.model import ProblemLog
from kpng.sources import Source
from kpng.store import Store

from .lazy import LazyGroup
from .running import run_to_end
from .sink import SINKS, Sink

SEPARATOR = "+"
_MORE_SINKS = "kpng.more_sinks"
_SOURCE = "kpng.source"


class Wanted(NamedTuple):
    """What all the sinks want of the source. ``once``: one state will do. ``node``: of the Nodes only this one
    matters; "": all of them may."""

    once: bool
    node: str


SourceMaker = Callable[[Wanted], Source]


def use_source(make: SourceMaker) -> None:
    """Say which source the command that is being invoked stands for."""
    click.get_current_context().meta[_SOURCE] = make


class PipelineGroup(LazyGroup):
    """A source's command: its subcommands are the sinks, separated by ``+``. Its callback calls `use_source`,
    and finds a `ProblemLog` in ``ctx.obj``."""

    lazy = SINKS

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        segments = list(split_sinks(args))
        if ctx.resilient_parsing:  # completion looks at the last sink only
            return super().parse_args(ctx, segments[-1])
        ctx.meta[_MORE_SINKS] = segments[1:]
        return super().parse_args(ctx, segments[0])

    def invoke(self, ctx: click.Context) -> None:
        with ctx:
            problems = ctx.obj = ProblemLog()
            sinks: list[Sink] = [super().invoke(ctx)]
            sinks += [self._invoke_sink(ctx, words) for words in ctx.meta[_MORE_SINKS]]
            make: SourceMaker = ctx.meta[_SOURCE]
            source = make(wanted_by(sinks))
        run_to_end(pipeline(source, sinks, problems))

    def _invoke_sink(self, ctx: click.Context, words: list[str]) -> Any:
        if not words:
            ctx.fail(f"a sink must follow {SEPARATOR!r}")
        name, command, rest = self.resolve_command(ctx, words)
        assert command is not None
        with command.make_context(name, rest, parent=ctx) as sub:
            return command.invoke(sub)


def wanted_by(sinks: Sequence[Sink]) -> Wanted:
    nodes = {sink.node for sink in sinks}
    return Wanted(all(sink.once for sink in sinks), nodes.pop() if len(nodes) == 1 else "")


def split_sinks(args: Sequence[str]) -> Iterator[list[str]]:
    """Split the words at each ``+``."""
    segment: list[str] = []
    for is_separator, words in groupby(args, SEPARATOR.__eq__):
        if not is_separator:
            segment = list(words)
            continue
        for _ in words:
            yield segment
            segment = []
    yield segment


async def pipeline(source: Source, sinks: Sequence[Sink], problems: ProblemLog) -> None:
    """Run until every sink is done. A source that ends (standard input) leaves its state standing."""
    store = Store()
    async with asyncio.TaskGroup() as group:
        background = [
            group.create_task(source.run(store)),
            group.create_task(Auditor(store, problems).run()),
        ]
        working = [group.create_task(sink.run(store)) for sink in sinks]
        await asyncio.wait(working)
        for task in background:
            task.cancel()
