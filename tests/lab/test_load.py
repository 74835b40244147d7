"""Load that goes on while something changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from kpng.lab.load import load, since
from kpng.lab.netns import Namespace
from kpng.lab.pods import serve
from kpng.lab.probes import REFUSED, Prober, Reply, Target
from kpng.lab.processes import LabError
from kpng.lab.services import HTTP

REPLIES = [Reply(1, 0, "a"), Reply(2, 0, "b"), Reply(3, 0, "a"), Reply(4, 0, error=REFUSED)]


@pytest.mark.parametrize(
    ("moment", "pod", "at"),
    [(0, "", [1, 2, 3]), (2, "", [2, 3]), (0, "a", [1, 3]), (2, "a", [3]), (4, "", []), (0, "c", [])],
)
def test_answers_since_a_moment(moment: float, pod: str, at: list[float]) -> None:
    assert [reply.at for reply in since(REPLIES, moment, pod)] == at


@pytest.fixture
async def prober(lab_name: str) -> AsyncIterator[Prober]:
    with Namespace(f"kpng-{lab_name}-load") as namespace:
        sender = Prober(namespace)
        yield sender
        sender.close()


@pytest.mark.netns
async def test_load_shows_what_changes_under_it(prober: Prober) -> None:
    target = Target("http", "127.0.0.1", HTTP)
    async with load(prober, target) as sending:
        assert await sending.until(lambda replies: len(replies) >= 5, 5)
        async with AsyncExitStack() as stack:
            await serve("web-9", prober.namespace, stack)
            assert await sending.until(lambda replies: len(since(replies, 0, "web-9")) >= 5, 5)
    tally = sending.tally
    assert tally.errors[REFUSED] >= 5
    assert tally.endpoints["web-9"] >= 5
    assert [reply.at for reply in tally.replies] == sorted(reply.at for reply in tally.replies)
    count = tally.sent
    await asyncio.sleep(0.02)
    assert tally.sent == count


@pytest.mark.netns
async def test_waiting_for_an_effect_has_an_end(prober: Prober) -> None:
    started = time.monotonic()
    async with load(prober, Target("http", "127.0.0.1", HTTP)) as sending:
        assert not await sending.until(lambda _: False, 0.05)
    assert time.monotonic() - started < 1


@pytest.mark.netns
async def test_load_that_breaks_is_an_error(prober: Prober) -> None:
    with pytest.raises(LabError, match=r"the load on 127.0.0.1:99999 stopped"):
        async with load(prober, Target("http", "127.0.0.1", 99999)) as sending:
            assert not await sending.until(lambda _: False, 0.05)
