"""Fills connection tracking with flows that nobody sent: what counts at 100,000 flows is best seen there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from kpng.host.conntrack import UDP, socket_address
from kpng.host.conntrack.messages import new_flow
from kpng.host.netlink import NetfilterSocket

_AT_ONCE = 512
_SEEN_REPLY, _ASSURED, _CONFIRMED = 1 << 1, 1 << 2, 1 << 3
_ESTABLISHED = _SEEN_REPLY | _ASSURED | _CONFIRMED
_DESTINATION_TRANSLATED = 1 << 5 | 1 << 7 | 1 << 8
"""IPS_DST_NAT, and both directions of translation settled, so that the kernel adds nothing."""


class MadeFlow(NamedTuple):
    """A flow as (address, port) pairs: who sent, to where, and who answers."""

    client: tuple[str, int]
    destination: tuple[str, int]
    endpoint: tuple[str, int]
    protocol: int = UDP

    def message(self) -> bytes:
        client, destination, endpoint = (
            socket_address(*end) for end in (self.client, self.destination, self.endpoint)
        )
        status = _ESTABLISHED | (_DESTINATION_TRANSLATED if destination != endpoint else 0)
        return new_flow(self.protocol, (client, destination), (endpoint, client), status)


def make_flows(flows: Sequence[MadeFlow]) -> None:
    """Enter flows in the network namespace of this thread. Raises `OSError`; 100,000 take about 2 s."""
    netfilter = NetfilterSocket()
    try:
        messages = (flow.message() for flow in flows)
        while chunk := list(islice(messages, _AT_ONCE)):
            refused = netfilter.send_all(chunk)
            if refused:
                raise refused[0]
    finally:
        netfilter.close()


def clients(count: int) -> Iterator[tuple[str, int]]:
    """So many ends, all different, at addresses meant for benchmarks (RFC 2544); four million at most."""
    for number in range(count):
        yield f"198.18.{number >> 14}.1", 1024 + (number & 0x3FFF)
