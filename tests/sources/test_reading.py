"""Bytes from outside: files, streams without end or without a beginning, and what is too much."""

# ruff: noqa: ASYNC240 (the files are small)

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kpng.model import ProblemLog, UserError
from kpng.sources import reading
from kpng.sources.documents import UnreadableError
from kpng.sources.file import FileSource
from kpng.sources.reading import MAX_BYTES, is_stream, read_file, read_to_end
from kpng.store import Store

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {clusterIP: 10.96.0.10}\n"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def peak_memory() -> int:
    """Bytes that this process held at its greatest (getrusage(2) counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    path, content = tmp_path / "file", os.urandom(size)
    path.write_bytes(content)
    assert read_file(path) == content


@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, True), (101, False)])
def test_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, fits: bool) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    if fits:
        assert len(read_file(path)) == size
    else:
        with pytest.raises(UnreadableError, match="more than 100 bytes"):
            read_file(path)


def test_what_is_too_large_is_not_even_begun(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)
    before = peak_memory()
    with pytest.raises(UnreadableError, match=f"more than {MAX_BYTES} bytes"):
        read_file(path)
    assert peak_memory() - before < MAX_BYTES / 4


def test_a_file_that_grows_while_it_is_read_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of proc(5) say that their size is 0."""
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    with pytest.raises(UnreadableError, match="more than 100 bytes"):
        read_file(Path("/proc/self/status"))


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "."])
def test_what_is_no_file_is_not_read_as_one(name: str) -> None:
    with pytest.raises(UnreadableError, match="no longer a file"):
        read_file(Path(name))


def test_a_fifo_in_the_place_of_a_file_holds_up_nothing(fifo: Path) -> None:
    with pytest.raises(UnreadableError, match="no longer a file"):
        read_file(fifo)


def test_what_is_missing_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "missing")


@pytest.mark.parametrize(("name", "stream"), [("fifo", True), ("file", False), (".", False), ("missing", False)])
def test_what_a_stream_is(tmp_path: Path, fifo: Path, name: str, stream: bool) -> None:
    (tmp_path / "file").touch()
    assert is_stream(tmp_path / name) is stream


# -- streams ---------------------------------------------------------------------------------------


async def test_input_is_read_to_its_end() -> None:
    begin, end = os.pipe()
    task = asyncio.create_task(read_to_end(begin))
    for part in (b"one", b"two"):
        os.write(end, part)
        await asyncio.sleep(0.02)
    assert not task.done()
    os.close(end)
    assert await task == b"onetwo"
    os.close(begin)  # it is ours: reading left it open


async def test_a_stream_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 5 << 20)
    with pytest.raises(UserError, match=f"^/dev/zero: more than {5 << 20} bytes$"):
        await FileSource("/dev/zero", ProblemLog()).run(Store())


async def test_a_stream_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        await read_to_end(folder)
    os.close(folder)


async def test_a_fifo_is_read_once_when_its_writer_comes(fifo: Path) -> None:
    store = Store()
    task = asyncio.create_task(FileSource(str(fifo), ProblemLog()).run(store))
    await asyncio.sleep(0.05)
    assert not task.done()
    await asyncio.to_thread(fifo.write_text, SERVICE)
    await task
    assert [str(key) for key in store.snapshot.services] == ["demo/web"]
    assert store.snapshot.complete


@pytest.mark.parametrize("text", ["", "a: [\n"])
async def test_a_bad_stream_is_the_users_mistake(fifo: Path, text: str) -> None:
    task = asyncio.create_task(FileSource(str(fifo), ProblemLog()).run(Store()))
    await asyncio.to_thread(fifo.write_text, text)
    with pytest.raises(UserError, match=f"^{fifo}:"):
        await task


WAITS = """
import asyncio, sys
from pathlib import Path
from kpng.sources.reading import read_to_end

async def main():
    task = asyncio.create_task(read_to_end(Path(sys.argv[1])))
    await asyncio.sleep(0.1)
    task.cancel()

asyncio.run(main())
"""


def test_a_fifo_without_a_writer_holds_up_no_end(fifo: Path) -> None:
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", WAITS, fifo], check=True, timeout=20)
    assert time.monotonic() - begin < 10


async def test_a_folder_skips_what_is_no_file(tmp_path: Path, fifo: Path) -> None:
    fifo.rename(tmp_path / "fifo.yaml")
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    (tmp_path / "web.yaml").write_text(SERVICE)
    store = Store()
    task = asyncio.create_task(FileSource(str(tmp_path), ProblemLog()).run(store))
    try:
        async with asyncio.timeout(5):
            await store.newer(store.snapshot)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [str(key) for key in store.snapshot.services] == ["demo/web"]
