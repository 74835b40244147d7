"""Flows as they would be in the kernel, in a line each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kpng.host.conntrack import UDP, Flow, socket_address


def parsed(text: str) -> bytes:
    """``ADDRESS:PORT`` (IPv6 in brackets) as a socket address."""
    address, _, port = text.rpartition(":")
    return socket_address(address.strip("[]"), int(port))


def make_flow(destination: str, answered_by: str = "", protocol: int = UDP) -> Flow:
    """A flow to a destination; without an answerer it is not translated."""
    return Flow(protocol, parsed(destination), parsed(answered_by or destination), b"")


@pytest.fixture
def flow() -> Callable[..., Flow]:
    return make_flow
