"""Standard output that cannot be written: whose mistake it is, told once."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from kpng.cli.output import OutputClosedError, _Output
from kpng.model import UserError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    begin, end = os.pipe()
    yield begin, end
    for descriptor in (begin, end):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has


def output(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(_Output(descriptor, "w", closefd=False)), encoding="utf-8")


def test_all_arrives_though_written_in_pieces(pipe: tuple[int, int]) -> None:
    text = "grüß dich\n" * 50_000
    parts: list[bytes] = []

    def read() -> None:
        while chunk := os.read(pipe[0], 1 << 16):
            parts.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    print(text, end="", file=output(pipe[1]), flush=True)
    os.close(pipe[1])
    reader.join()
    assert b"".join(parts).decode() == text


def test_a_full_disk_is_told_once() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        stream = output(full.fileno())
        with pytest.raises(UserError, match=r"^standard output: cannot write: No space left on device$"):
            print("x" * 100_000, file=stream, flush=True)
        print("more", file=stream, flush=True)
        stream.close()


def test_a_reader_that_went_away_is_told_once(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    stream = output(pipe[1])
    with pytest.raises(OutputClosedError):
        print("text", file=stream, flush=True)
    stream.close()


def test_a_signal_ends_the_wait_for_a_reader_and_what_heeded_it_before_does_again(pipe: tuple[int, int]) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        ours = signal.getsignal(signal.SIGTERM)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with pytest.raises(OutputClosedError, match="stopped"):
            print("x" * 1_000_000, file=output(pipe[1]), flush=True)
        timer.join()
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
