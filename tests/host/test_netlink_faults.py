"""What the kernel may answer, played over a socket pair: failed, interrupted, truncated, lost, out of turn."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.host import netlink
from kpng.host.netlink import DumpInterruptedError, Flag, NetfilterSocket, NetlinkError
from kpng.host.nftables import Family, Nftables, TransactionError, elements, messages
from kpng.host.nftables.messages import Kind
from kpng.lab.netns import Namespace

_numbers = itertools.count()
DATA = 0xA0A
REQUEST = netlink.message(0xA0A, Flag.DUMP, b"")


def said(kind: int, payload: bytes, flags: int = 0, sequence: int = 1) -> bytes:
    padding = bytes(-len(payload) % 4)
    return netlink.HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + payload + padding


def data(text: str, flags: int = 0) -> bytes:
    return said(DATA, text.encode(), flags | 2)


def done(number: int = 0, flags: int = 0) -> bytes:
    return said(netlink.NLMSG_DONE, struct.pack("=i", -number), flags | 2)


def refused(number: int, sequence: int = 1) -> bytes:
    header = netlink.HEADER.pack(20, DATA, 0, sequence, 0)
    return said(netlink.NLMSG_ERROR, struct.pack("=i", -number) + header, 0x100, sequence)


INTERRUPTED = Flag.DUMP_INTERRUPTED


class Played:
    """A netfilter socket whose kernel is this test. ``answers``: the datagrams for each request, in order."""

    def __init__(self) -> None:
        self.socket = NetfilterSocket()
        self.socket._socket.close()
        self.socket._socket, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.requests = 0
        self._thread: threading.Thread | None = None

    def answer(self, *answers: list[bytes]) -> None:
        self._thread = threading.Thread(target=self._serve, args=(answers,))
        self._thread.start()

    def _serve(self, answers: tuple[list[bytes], ...]) -> None:
        for datagrams in answers:
            self._kernel.recv(1 << 16)
            self.requests += 1
            for datagram in datagrams:
                self._kernel.send(datagram)

    def queue(self, datagram: bytes) -> None:
        self._kernel.send(datagram)

    def close(self) -> None:
        self._kernel.close()
        self.socket.close()
        if self._thread is not None:
            self._thread.join()


@pytest.fixture
def played() -> Iterator[Played]:
    found = Played()
    wait = struct.pack("@ll", 5, 0)  # rather than for ever, where a test fails
    found.socket._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
    try:
        yield found
    finally:
        found.close()


DUMPS = [
    pytest.param([done()], [], id="nothing"),
    pytest.param([data("a") + data("b"), done()], ["a", "b"], id="end in a datagram of its own"),
    pytest.param([data("a") + done()], ["a"], id="end in the same datagram"),
    pytest.param([data("a"), data("b"), data("c") + done()], ["a", "b", "c"], id="many datagrams"),
    pytest.param([data("odd") + data("length") + done()], ["odd", "length"], id="padding between messages"),
    pytest.param([said(netlink.NLMSG_DONE, b"")], [], id="an end without a result"),
]


@pytest.mark.parametrize(("datagrams", "expected"), DUMPS)
def test_dumps(played: Played, datagrams: list[bytes], expected: list[str]) -> None:
    played.answer(datagrams)
    assert [payload.decode() for payload in played.socket.dump(REQUEST)] == expected


FAILED_DUMPS = [
    pytest.param([refused(errno.ENOENT)], errno.ENOENT, id="refused"),
    pytest.param([data("a"), refused(errno.EINVAL)], errno.EINVAL, id="refused in the middle"),
    pytest.param([data("a"), done(errno.ENOENT)], errno.ENOENT, id="the set went while it was dumped"),
    pytest.param([data("a") + done(errno.EINTR)], errno.EINTR, id="failed in one datagram"),
]


@pytest.mark.parametrize(("datagrams", "number"), FAILED_DUMPS)
def test_dumps_that_fail(played: Played, datagrams: list[bytes], number: int) -> None:
    played.answer(datagrams)
    with pytest.raises(NetlinkError) as caught:
        played.socket.dump(REQUEST)
    assert caught.value.errno == number


INTERRUPTED_DUMPS = [
    pytest.param([data("a", INTERRUPTED), data("b"), done()], id="at the start"),
    pytest.param([data("a"), data("b", INTERRUPTED) + done(flags=INTERRUPTED)], id="in the last datagram"),
    pytest.param([data("a"), done(flags=INTERRUPTED)], id="said only at the end"),
]


@pytest.mark.parametrize("datagrams", INTERRUPTED_DUMPS)
def test_an_interrupted_dump_is_read_to_its_end(played: Played, datagrams: list[bytes]) -> None:
    """Or what is left of it would be taken for the answer to the next request."""
    played.answer(datagrams, [data("fresh"), done()])
    with pytest.raises(DumpInterruptedError):
        played.socket.dump(REQUEST)
    assert played.socket.dump(REQUEST) == [b"fresh"]


def connection_over(played: Played) -> Nftables:
    connection = Nftables.__new__(Nftables)
    connection._socket = played.socket
    return connection


def chain_answer(name: str, table: str = "t", family: int = Family.IPV4, flags: int = 0) -> bytes:
    body = struct.pack("=BBH", family, 0, 0) + netlink.string(1, table) + netlink.string(3, name)
    return said(DATA, body, flags | 2)


def test_an_interrupted_dump_is_asked_for_again(played: Played) -> None:
    interrupted = [chain_answer("old", flags=INTERRUPTED), done(flags=INTERRUPTED)]
    played.answer(interrupted, interrupted, [chain_answer("new"), done()])
    assert connection_over(played).chains(Family.IPV4, "t") == ["new"]
    assert played.requests == 3


def test_but_not_for_ever(played: Played) -> None:
    played.answer(*[[done(flags=INTERRUPTED)]] * 10)
    with pytest.raises(InterruptedError, match="kept changing"):
        connection_over(played).chains(Family.IPV4, "t")


def test_what_was_not_asked_for_is_left_out(played: Played) -> None:
    """Old kernels dump the chains of all tables and families."""
    others = chain_answer("a", table="other") + chain_answer("b", family=Family.IPV6)
    played.answer([others + chain_answer("mine") + done()])
    assert connection_over(played).chains(Family.IPV4, "t") == ["mine"]


def test_a_request(played: Played) -> None:
    played.answer([data("answer")], [refused(errno.EPERM)], [data("next")])
    assert played.socket.request(REQUEST) == b"answer"
    with pytest.raises(NetlinkError) as caught:
        played.socket.request(REQUEST)
    assert caught.value.errno == errno.EPERM
    assert played.socket.request(REQUEST) == b"next"


def test_what_nobody_asked_for_is_not_an_answer(played: Played) -> None:
    """Left from before: a notification, or what an interrupted call did not read."""
    played.queue(data("stale"))
    played.queue(refused(errno.EEXIST))
    played.answer([data("right")])
    assert played.socket.request(REQUEST) == b"right"


TRUNCATED = [
    pytest.param(data("whole")[:10], id="within the header"),
    pytest.param(data("whole")[:18], id="within the payload"),
    pytest.param(data("whole") + data("cut")[:17], id="within the second message"),
    pytest.param(struct.pack("=IHHII", 0, DATA, 0, 1, 0), id="no length at all"),
    pytest.param(struct.pack("=IHHII", 15, DATA, 0, 1, 0), id="shorter than a header"),
    pytest.param(struct.pack("=IHHII", 1 << 31, DATA, 0, 1, 0), id="far too long"),
]


@pytest.mark.parametrize("datagram", TRUNCATED)
def test_a_truncated_answer_is_an_error_and_not_an_endless_loop(played: Played, datagram: bytes) -> None:
    played.answer([datagram], [data("next"), done()])
    with pytest.raises(OSError, match="truncated") as caught:
        played.socket.dump(REQUEST)
    assert caught.value.errno == errno.EPROTO
    assert played.socket.dump(REQUEST) == [b"next"]


@given(st.binary(max_size=100))
def test_whatever_comes_splitting_ends(garbage: bytes) -> None:
    total = 0
    with contextlib.suppress(OSError):
        for *_, payload in netlink._split(garbage):
            total += 16 + len(payload)
    assert total <= len(garbage)


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_splitting_gives_back_the_messages(payloads: list[bytes]) -> None:
    datagram = b"".join(said(DATA, payload, 2, number) for number, payload in enumerate(payloads))
    assert list(netlink._split(datagram)) == [(DATA, 2, n, payload) for n, payload in enumerate(payloads)]


class TestKernel:
    """The same against the kernel, where it can be brought to fail."""

    @pytest.fixture
    def space(self) -> Iterator[Namespace]:
        with Namespace(f"kpt-{os.getpid()}-faults-{next(_numbers)}") as space:
            yield space

    @pytest.fixture
    def connect(self, space: Namespace) -> Iterator[Callable[[], Nftables]]:
        made: list[Nftables] = []

        def connect() -> Nftables:
            made.append(space.call(Nftables))
            return made[-1]

        yield connect
        for connection in made:
            connection.close()

    @staticmethod
    def table_with(*numbers: int) -> list[bytes]:
        encode = elements.key_encoder(4)
        added = messages.new_elements(Family.IPV4, "t", "s", (encode(struct.pack(">I", n)) for n in numbers))
        made = messages.new_set(Family.IPV4, "t", "s", 1, key_type=7, key_lengths=[4])
        return [messages.new_table(Family.IPV4, "t"), made, *added]

    @pytest.mark.netns
    def test_too_large_for_the_send_buffer(self, connect: Callable[[], Nftables]) -> None:
        """Nothing is sent, nothing is done, and the connection is as good as before."""
        connection = connect()
        connection._socket._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        with pytest.raises(OSError, match="Message too long") as caught:
            connection.commit(self.table_with(*range(5000)))
        assert caught.value.errno == errno.EMSGSIZE
        assert connection.table_flags(Family.IPV4, "t") is None
        connection.commit(self.table_with(1, 2))
        assert len(list(connection.elements(Family.IPV4, "t", "s"))) == 2

    @pytest.mark.netns
    def test_answers_that_overrun_the_receive_buffer(self, connect: Callable[[], Nftables]) -> None:
        """Thousands of refusals: whatever of them is lost, it is a failure, and the next request gets its own."""
        connection = connect()
        connection._socket._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        wrong = [messages.delete_set(Family.IPV4, "no-such-table", "s")] * 3000
        with pytest.raises(OSError, match=r"No buffer space|No such file"):
            connection.commit(wrong)
        connection.commit(self.table_with(1))
        assert connection.table_flags(Family.IPV4, "t") == 0

    @pytest.mark.netns
    def test_all_refusals_of_one_transaction_are_told(self, connect: Callable[[], Nftables]) -> None:
        connection = connect()
        parts = [messages.delete_chain(Family.IPV4, "a", "x"), messages.delete_set(Family.IPV6, "b", "y")]
        with pytest.raises(TransactionError) as caught:
            connection.commit(parts)
        assert (caught.value.kind, caught.value.table, caught.value.name) == (Kind.DELETE_CHAIN, "a", "x")
        cause = caught.value.__cause__
        assert isinstance(cause, NetlinkError)
        assert [error.index for error in (cause, *cause.others)] == [0, 1]

    @pytest.mark.netns
    def test_threads_take_turns(self, connect: Callable[[], Nftables]) -> None:
        """Transactions, dumps and requests over one connection: each gets its own answer."""
        connection = connect()
        connection.commit(self.table_with(*range(2000)))
        encode = elements.key_encoder(4)

        def change(number: int) -> int:
            parts = messages.new_elements(Family.IPV4, "t", "s", [encode(struct.pack(">I", 10_000 + number))])
            connection.commit(list(parts))
            return len(connection.chains(Family.IPV4, "t"))

        def look(_: int) -> int:
            names = connection.sets(Family.IPV4, "t")
            return connection.generation() * (list(names) == ["s"])

        def fail(number: int) -> int:
            with pytest.raises(TransactionError):
                connection.commit([messages.delete_set(Family.IPV4, "t", f"none-{number}")])
            return 1

        with ThreadPoolExecutor(6) as threads:
            changes, looks, failures = (threads.map(work, range(100)) for work in (change, look, fail))
            assert set(changes) == {0}
            assert all(generation > 0 for generation in looks)
            assert set(failures) == {1}
        assert len({e.key for e in connection.elements(Family.IPV4, "t", "s")}) == 2100

    @pytest.mark.netns
    def test_sequence_numbers_may_wrap(self, connect: Callable[[], Nftables]) -> None:
        connection = connect()
        connection._socket._sequence = 0x3FFFFFFD
        connection.commit(self.table_with(1))
        for _ in range(3):
            with pytest.raises(TransactionError):
                connection.commit([messages.delete_set(Family.IPV4, "t", "none")])
            connection.generation()
        assert connection._socket._sequence < 100

    @pytest.mark.netns
    def test_a_closed_connection_says_so(self, connect: Callable[[], Nftables]) -> None:
        connection = connect()
        connection.close()
        for call in (connection.generation, lambda: connection.commit(self.table_with(1))):
            with pytest.raises(OSError, match="Bad file descriptor"):
                call()

    @pytest.mark.netns
    def test_closing_waits_for_the_transaction(self, connect: Callable[[], Nftables]) -> None:
        """What was sent is told to be done, although somebody closes meanwhile."""
        connection, other = connect(), connect()
        with ThreadPoolExecutor(1) as thread:
            committing = thread.submit(connection.commit, self.table_with(*range(30_000)))
            while not connection._socket._lock.locked() and not committing.done():
                pass
            connection.close()
            assert committing.result() is None
        assert other.table_flags(Family.IPV4, "t") == 0
