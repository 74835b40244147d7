"""Watching one node's local state."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing

from kpng.model import ChangeSet, ProblemLog
from kpng.wire.ops import LOCAL_WATCH
from kpng.wire.proto import localv1_pb2 as localv1

from .batches import Batched
from .conversation import Conversation, Plain
from .local_round import LocalRound
from .mirror import LocalMirror
from .problems import SeenProblems
from .rounds import ask, follow


async def watch_local(
    address: str, node: str, tls: ssl.SSLContext | None = None, *, problems: ProblemLog | None = None
) -> AsyncGenerator[ChangeSet, None]:
    """What ``node`` must do, as change sets without end, from the kpng API at ``address``: "HOST:PORT" or
    "unix:///PATH", or several of them, separated by commas.

    The first is ``full``. A lost connection is made again, and then only what really differs is told. The
    next round is asked for when the consumer asks for the next change set, so changes collapse meanwhile.
    """
    mirror = LocalMirror()
    rounds = follow(address, _conversations(address, node, problems), tls)
    async with aclosing(rounds):
        async for collected in rounds:
            changes = mirror.apply(collected)
            if changes is not None:
                yield changes


async def ask_local(
    address: str, node: str, tls: ssl.SSLContext | None = None, *, problems: ProblemLog | None = None
) -> ChangeSet:
    """What ``node`` must do as of now, asked once. Raises ``OSError``, ``EOFError`` or `GrpcError`."""
    collected = await ask(address, _conversations(address, node, problems), tls)
    return LocalMirror().apply(collected) or ChangeSet({}, full=True)


def _conversations(address: str, node: str, problems: ProblemLog | None) -> list[Conversation[LocalRound]]:
    """Best first: batches, or else what every kpng has."""
    seen = SeenProblems(ProblemLog() if problems is None else problems)

    def new_round() -> LocalRound:
        return LocalRound(seen, address)

    request = localv1.WatchReq(NodeName=node).SerializeToString()
    return [Batched(node, new_round), Plain(LOCAL_WATCH, request, new_round)]
