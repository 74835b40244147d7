"""Talking to connection tracking: dumps filtered by the kernel, removals pipelined.

Measured with 100,000 flows (Linux 6.18, benchmarks/conntrack.py): a filtered dump that finds 1,000 of them takes
25 ms, removing these one by one in four datagrams 2 ms, a dump of all flows 280 ms. A delete with a filter, which
newer kernels have, takes as long as dump and deletes together, does not say how many it found, can only name an
answer, not "all but these", and with an IPv6 address removes just the others (`messages`): it is not used.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from kpng.host.netlink import DumpInterruptedError, NetfilterSocket, NetlinkError

from .messages import Flow, Query, delete_flow, get_flows, read_flow

_DELETES_AT_ONCE = 256
_DUMP_ATTEMPTS = 5
_NO_FILTER = frozenset({errno.EOPNOTSUPP, errno.EINVAL})
_ABSENT = frozenset({errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.EINVAL, errno.EOPNOTSUPP, errno.EAFNOSUPPORT})
"""What socket(2) and nfnetlink say where the kernel has no netfilter netlink, or no nf_conntrack_netlink."""


class ConntrackUnavailableError(Exception):
    """This kernel tracks no connections, or does not let this process at them: no use in trying again."""


class Conntrack:
    """A connection to connection tracking in the network namespace it was made in.

    All methods raise `ConntrackUnavailableError`, or `OSError` for what may pass.
    """

    def __init__(self) -> None:
        try:
            self._socket = NetfilterSocket()
        except OSError as error:
            raise _understood(error) from error

    def close(self) -> None:
        self._socket.close()

    def flows(self, query: Query) -> Iterator[Flow]:
        """What ``query`` names. Flows may come and go meanwhile; where the kernel says that this spoilt the answer
        it is asked again, so a flow may be seen twice."""
        for attempt in range(1, _DUMP_ATTEMPTS + 1):
            try:
                yield from self._dump(query)
            except DumpInterruptedError as interruption:
                if attempt == _DUMP_ATTEMPTS:
                    raise InterruptedError("the list of flows kept changing while it was read") from interruption
            else:
                return

    def _dump(self, query: Query) -> Iterator[Flow]:
        try:
            yield from self._matching(query, get_flows(query))
        except NetlinkError as error:
            if error.errno not in _NO_FILTER:
                raise _understood(error) from error
        else:
            return
        try:
            yield from self._matching(query, get_flows(query, filtered=False))
        except NetlinkError as error:
            raise _understood(error) from error

    def _matching(self, query: Query, request: bytes) -> Iterator[Flow]:
        """The kernel may not have filtered (by IPv6 address it never does), so every flow is looked at: first, in a
        tenth of the time, whether the address is in there at all."""
        address = query.address or query.answered_by[:-2]
        for payload in self._socket.iterate(request):
            flow = read_flow(payload) if address in payload else None
            if flow is not None and query.names(flow):
                yield flow

    def delete(self, flows: Sequence[Flow]) -> int:
        """Remove flows; returns how many were still there. Of what the kernel refuses, the first error is raised
        after all others are gone."""
        removed = 0
        errors: list[NetlinkError] = []
        for start in range(0, len(flows), _DELETES_AT_ONCE):
            messages = [delete_flow(flow) for flow in flows[start : start + _DELETES_AT_ONCE]]
            refused = self._socket.send_all(messages)
            removed += len(messages) - len(refused)
            errors += (error for error in refused if error.errno != errno.ENOENT)  # gone by itself
        if errors:
            raise errors[0]
        return removed


def _understood(error: OSError) -> Exception:
    if error.errno in {errno.EPERM, errno.EACCES}:
        return ConntrackUnavailableError("connection tracking needs root (CAP_NET_ADMIN)")
    if error.errno in _ABSENT:
        return ConntrackUnavailableError(f"this kernel offers no connection tracking: {error.strerror}")
    return error
