"""Network namespaces: what is inside stays inside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kpng.lab.netns import CommandError, Namespace, connect, run


def test_a_command_gives_its_output() -> None:
    assert run(["cat"], stdin="hello") == "hello"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["sh", "-c", "echo broken >&2; exit 3"], "exit 3: broken"),
        (["sh", "-c", "echo on the wrong channel; exit 1"], "exit 1: on the wrong channel"),
        (["false"], "false: exit 1: "),
    ],
)
def test_a_command_that_fails_is_named_with_what_it_said(command: list[str], says: str) -> None:
    with pytest.raises(CommandError) as failed:
        run(command)
    assert says in str(failed.value)


def test_a_command_is_not_in_our_process_group() -> None:
    group = run(["sh", "-c", "cut -d' ' -f5 /proc/$$/stat"])
    assert int(group) != os.getpgrp()


@pytest.fixture
def inside(lab_name: str) -> Iterator[Namespace]:
    with Namespace(f"kpng-{lab_name}-one") as namespace:
        yield namespace


def network_of(task: str) -> int:
    return os.stat(f"/proc/{task}/ns/net").st_ino


@pytest.mark.netns
class TestInside:
    def test_it_is_another_network_with_its_loopback_up(self, inside: Namespace) -> None:
        assert os.stat(inside.path).st_ino != network_of("self")
        assert "UP" in inside.run("ip", "-o", "link", "show", "lo")

    def test_it_comes_and_goes(self, lab_name: str) -> None:
        namespace = Namespace(f"kpng-{lab_name}-two")
        assert not namespace.exists()
        namespace.create()
        assert namespace.exists()
        with pytest.raises(CommandError, match="File exists"):
            namespace.create()
        namespace.delete()
        assert not namespace.exists()
        namespace.delete()

    def test_a_call_runs_inside_and_we_stay_outside(self, inside: Namespace) -> None:
        before = network_of("thread-self")
        assert inside.call(lambda: network_of("thread-self")) == os.stat(inside.path).st_ino
        assert network_of("thread-self") == before

    def test_an_executor_stays_inside_over_many_calls(self, inside: Namespace) -> None:
        with inside.executor() as executor:
            seen = {executor.submit(network_of, "thread-self").result() for _ in range(5)}
            threads = {executor.submit(threading.get_ident).result() for _ in range(5)}
        assert seen == {os.stat(inside.path).st_ino}
        assert len(threads) == 1

    def test_a_socket_made_inside_stays_inside(self, inside: Namespace) -> None:
        def listen() -> socket.socket:
            return socket.create_server(("127.0.0.1", 0))

        with inside.call(listen) as server, socket.socket() as outside:
            port = server.getsockname()[1]
            outside.settimeout(1)
            with pytest.raises(ConnectionRefusedError):
                outside.connect(("127.0.0.1", port))
            with inside.call(lambda: socket.create_connection(("127.0.0.1", port), 1)):
                pass

    def test_what_a_call_raises_comes_out(self, inside: Namespace) -> None:
        def fail() -> None:
            raise LookupError("inside")

        with pytest.raises(LookupError, match="inside"):
            inside.call(fail)

    def test_a_process_runs_inside_under_its_own_pid(self, inside: Namespace) -> None:
        with inside.popen("sleep", "60") as process:
            wait_until(lambda: inside.pids() == [process.pid])
            assert network_of(str(process.pid)) == os.stat(inside.path).st_ino
            inside.kill(signal.SIGTERM)
            assert process.wait(5) == -signal.SIGTERM
        assert inside.pids() == []

    def test_deleting_ends_what_runs_inside_and_nothing_else(self, lab_name: str) -> None:
        namespace = Namespace(f"kpng-{lab_name}-two")
        namespace.create()
        with namespace.popen("sleep", "60") as inner, subprocess.Popen(["sleep", "60"]) as outer:
            try:
                wait_until(lambda: bool(namespace.pids()))
                namespace.delete()
                assert inner.wait(5) == -signal.SIGKILL
                assert outer.poll() is None
            finally:
                outer.kill()

    def test_a_cable_joins_two(self, inside: Namespace, lab_name: str) -> None:
        with Namespace(f"kpng-{lab_name}-two") as other:
            connect(inside, "left", other, "right")
            inside.run("ip", "address", "add", "192.0.2.1/30", "dev", "left")
            other.run("ip", "address", "add", "192.0.2.2/30", "dev", "right")
            with (
                other.call(lambda: socket.create_server(("192.0.2.2", 7777))) as server,
                inside.call(lambda: socket.create_connection(("192.0.2.2", 7777), 2)) as client,
            ):
                accepted, peer = server.accept()
                accepted.close()
                assert peer[0] == client.getsockname()[0] == "192.0.2.1"


def wait_until(met: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.005)
