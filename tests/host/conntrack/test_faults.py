"""What connection tracking may answer on other kernels and on bad days, played by a socket that is a script."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from kpng.host import netlink
from kpng.host.conntrack import UDP, Conntrack, ConntrackUnavailableError, Flow, Query, socket_address
from kpng.host.conntrack.messages import Kind, new_flow
from kpng.host.netlink import HEADER, Flag

V4 = socket.AF_INET
QUERY = Query(V4, address=socket.inet_aton("10.96.0.10"), port=53)
FILTER = bytes.fromhex("14001980")


def made(port: int, protocol: int = UDP) -> bytes:
    """The payload of a flow from 198.18.0.1 to 10.96.0.10:port."""
    client, vip, pod = (
        socket_address(*end) for end in (("198.18.0.1", 1024), ("10.96.0.10", port), ("10.1.0.1", 5353))
    )
    return new_flow(protocol, (client, vip), (pod, client), 14)[HEADER.size :]


def said(kind: int, payload: bytes, sequence: int = 0, flags: int = 2) -> bytes:
    return HEADER.pack(HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def done(flags: int = 2) -> bytes:
    return said(netlink.NLMSG_DONE, bytes(4), flags=flags)


def refused(number: int, sequence: int = 0) -> bytes:
    return said(netlink.NLMSG_ERROR, struct.pack("=i", -number) + bytes(HEADER.size), sequence, flags=0x100)


Answer = list[bytes | OSError]


class Script:
    """A netlink socket with one answer for each datagram sent."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self._queue: Answer = []
        self.sent: list[bytes] = []

    def send(self, datagram: bytes) -> None:
        self.sent.append(bytes(datagram))
        self._queue += self._answers.pop(0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self._queue:
            raise BlockingIOError
        answer = self._queue.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        pass


def scripted(*answers: Answer) -> tuple[Conntrack, Script]:
    conntrack, script = Conntrack(), Script(*answers)
    conntrack._socket._socket.close()
    conntrack._socket._socket = script  # type: ignore[assignment]
    return conntrack, script


def ports(flows: list[Flow]) -> list[int]:
    return [int.from_bytes(flow.destination[-2:], "big") for flow in flows]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_kernel_that_refuses_the_filter_is_asked_for_everything(number: int) -> None:
    everything = said(Kind.NEW, made(53)) + said(Kind.NEW, made(54)) + said(Kind.NEW, made(53, 6))
    conntrack, script = scripted([refused(number)], [everything, done()])
    assert ports(list(conntrack.flows(QUERY))) == [53]
    assert [FILTER in datagram for datagram in script.sent] == [True, False]


def test_a_kernel_that_ignores_the_filter_gives_no_wrong_flows() -> None:
    everything = [said(Kind.NEW, made(port, protocol)) for port in (53, 54) for protocol in (6, UDP, 132)]
    conntrack, _ = scripted([b"".join(everything), done()])
    assert ports(list(conntrack.flows(QUERY))) == [53]


UNAVAILABLE = [
    (errno.EINVAL, "this kernel offers no connection tracking: Invalid argument"),
    (errno.EOPNOTSUPP, "this kernel offers no connection tracking: Operation not supported"),
]


@pytest.mark.parametrize(("number", "said_so"), UNAVAILABLE)
def test_a_kernel_without_the_module(number: int, said_so: str) -> None:
    """nfnetlink answers EINVAL for a subsystem that nobody registered and no module brings."""
    conntrack, _ = scripted([refused(number)], [refused(number)])
    with pytest.raises(ConntrackUnavailableError, match=said_so):
        list(conntrack.flows(QUERY))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_without_permission(number: int) -> None:
    conntrack, _ = scripted([refused(number)])
    with pytest.raises(ConntrackUnavailableError, match="CAP_NET_ADMIN"):
        list(conntrack.flows(QUERY))


@pytest.mark.parametrize("number", [errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.EPERM])
def test_no_socket_at_all(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> socket.socket:
        raise OSError(number, "no")

    monkeypatch.setattr(netlink.socket, "socket", fail)
    with pytest.raises(ConntrackUnavailableError):
        Conntrack()


def test_a_lack_of_descriptors_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(netlink.socket, "socket", fail)
    with pytest.raises(OSError, match="Too many open files"):
        Conntrack()


INTERRUPTED = [said(Kind.NEW, made(53)), done(flags=2 | Flag.DUMP_INTERRUPTED)]


def test_an_interrupted_list_is_read_again() -> None:
    conntrack, script = scripted(INTERRUPTED, INTERRUPTED, [said(Kind.NEW, made(53)), done()])
    assert ports(list(conntrack.flows(QUERY))) == [53, 53, 53], "what was there counts, however often"
    assert len(script.sent) == 3


def test_a_list_that_never_holds_still() -> None:
    conntrack, script = scripted(*[INTERRUPTED] * 5)
    with pytest.raises(InterruptedError, match="kept changing"):
        list(conntrack.flows(QUERY))
    assert len(script.sent) == 5


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
def test_lost_answers_are_an_error_that_passes(number: int) -> None:
    conntrack, _ = scripted([said(Kind.NEW, made(53)), OSError(number, "lost"), done()], [done()])
    with pytest.raises(OSError, match="lost"):
        list(conntrack.flows(QUERY))
    assert list(conntrack.flows(QUERY)) == [], "the rest of the answer is not taken for the next"


def some_flows(count: int) -> list[Flow]:
    payload = made(53)
    return [Flow(UDP, b"", b"", payload)] * count


def test_refused_deletes() -> None:
    """Gone meanwhile is fine; the first real error is raised when all the others are done."""
    first = [refused(errno.ENOENT, 1), refused(errno.EBUSY, 3), refused(0, 256)]
    conntrack, script = scripted(first, [refused(errno.EIO, 257 + 3), refused(0, 257 + 43)])
    with pytest.raises(OSError, match="busy") as caught:
        conntrack.delete(some_flows(300))
    assert caught.value.errno == errno.EBUSY
    assert len(script.sent) == 2


def test_the_last_delete_may_be_the_refused_one() -> None:
    conntrack, _ = scripted([refused(errno.ENOENT, 3)])
    assert conntrack.delete(some_flows(3)) == 2


def test_deletes_without_an_answer_are_not_taken_for_done() -> None:
    conntrack, _ = scripted([])
    with pytest.raises(OSError, match="did not acknowledge"):
        conntrack.delete(some_flows(3))


def test_lost_answers_to_deletes() -> None:
    conntrack, _ = scripted([OSError(errno.ENOBUFS, "lost")])
    with pytest.raises(OSError, match="lost"):
        conntrack.delete(some_flows(3))


def test_only_the_last_delete_asks_for_an_answer() -> None:
    conntrack, script = scripted([refused(0, 3)])
    assert conntrack.delete(some_flows(3)) == 3
    flags = [flags for _, flags, _, _ in netlink._split(script.sent[0])]
    assert flags == [Flag.REQUEST, Flag.REQUEST, Flag.REQUEST | Flag.ACK]
