from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kpng.model import EndpointInfo, IPSet, Node, ProblemLog, Service, ServiceKey, UserError
from kpng.sinks import write_state_file
from kpng.sinks.file import replace_file, state_of
from kpng.sources.file import FileSource
from kpng.store import Kind, Store
from kpng.wire.yaml import load_documents

WEB = Service(namespace="demo", name="web", cluster_ips=IPSet(("10.96.0.10",)))


def fill(store: Store, *services: Service) -> None:
    with store.transaction() as tx:
        tx.replace(*Kind)
        for service in services:
            tx.set_service(service)
            tx.set_source("slice", service.key, [EndpointInfo(addresses=IPSet(("10.1.0.5",)))])
        tx.set_node(Node(name="n1", zone="za"))


def names_in(path: Path) -> list[str]:
    return names_in_text(path.read_text())


def names_in_text(text: str) -> list[str]:
    ((_, document),) = load_documents(text)
    return names_of(document)


def names_of(document: object) -> list[str]:
    assert isinstance(document, dict)
    entries: Any = document["services"]
    return [entry["service"]["name"] for entry in entries]


@contextlib.asynccontextmanager
async def writing(store: Store, path: Path) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(write_state_file(store, str(path)))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, UserError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_each_change_is_written(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "state.yaml"
    async with writing(store, path):
        fill(store, WEB)
        await until(path.exists)
        assert names_in(path) == ["web"]
        fill(store, Service(namespace="demo", name="other"))
        await until(lambda: names_in(path) == ["other"])


async def test_an_incomplete_state_is_not_written(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "state.yaml"
    async with writing(store, path):
        with store.transaction() as tx:
            tx.set_service(WEB)
            tx.mark_synced(Kind.SERVICES, Kind.ENDPOINTS, Kind.SERVICE_CIDRS)
        await asyncio.sleep(0.1)
        assert not path.exists()
        with store.transaction() as tx:
            tx.mark_synced(Kind.NODES)
        await until(path.exists)


async def test_once_is_the_first_state(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "state.yaml"
    fill(store, WEB)
    await asyncio.wait_for(write_state_file(store, str(path), once=True), 5)
    assert names_in(path) == ["web"]


async def test_an_empty_cluster_is_written(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "state.yaml"
    async with writing(store, path):
        with store.transaction() as tx:
            tx.mark_synced(*Kind)
        await until(path.exists)
        assert path.read_text() == "nodes: []\nservices: []\n"


async def test_a_burst_becomes_few_writes_and_ends_in_the_last(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "state.yaml"
    inodes = set()
    async with writing(store, path):
        for number in range(100):
            fill(store, Service(namespace="demo", name=f"v{number}"))
            await asyncio.sleep(0.001)
            if path.exists():
                inodes.add(path.stat().st_ino)
        await until(lambda: path.exists() and names_in(path) == ["v99"])
    assert len(inodes) < 50


async def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "state.yaml"
    services = [Service(namespace="demo", name=f"s{number:03}") for number in range(200)]
    async with writing(store, path):
        fill(store, *services)
        await until(path.exists)
        for number in range(5):
            fill(store, *services, Service(namespace="demo", name=f"t{number}"))
            await asyncio.sleep(0.03)
            assert len(names_in(path)) in (200, 201)
    assert os.listdir(tmp_path) == ["state.yaml"]


async def test_what_is_written_can_be_followed(tmp_path: Path) -> None:
    """One kpng's `to-file` is another's `file`."""
    first, second, path = Store(), Store(), tmp_path / "state.yaml"
    async with writing(first, path):
        fill(first, WEB)
        await until(path.exists)
        source = asyncio.create_task(FileSource(str(path), ProblemLog()).run(second))
        await until(lambda: second.snapshot.complete)
        assert state_of(second.snapshot) == state_of(first.snapshot)
        fill(first, Service(namespace="demo", name="other"))
        await until(lambda: state_of(second.snapshot) == state_of(first.snapshot))
        source.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await source


async def test_standard_output_gets_one_document_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    async with writing(store, Path("-")):
        fill(store, WEB)
        await asyncio.sleep(0.2)
        fill(store)
        await asyncio.sleep(0.2)
    documents = [document for _, document in load_documents(capsys.readouterr().out)]
    assert len(documents) == 2


@pytest.mark.parametrize("name", ["missing/state.yaml", "."])
async def test_a_path_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    store = Store()
    fill(store, WEB)
    with pytest.raises(UserError, match="cannot write: "):
        await write_state_file(store, str(tmp_path / name))


def device(path: Path, minor: int) -> Path:
    """A memory device of our own (null(4), full(4)): nothing of the machine's is at stake."""
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    return path


needs_devices = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make devices")
NULL, FULL = 3, 7


@needs_devices
@pytest.mark.parametrize("name", ["device", "link"])
async def test_a_device_stays_one(tmp_path: Path, name: str) -> None:
    store, null = Store(), device(tmp_path / "device", NULL)
    (tmp_path / "link").symlink_to(null)
    fill(store, WEB)
    async with writing(store, tmp_path / name) as task:
        await asyncio.sleep(0.1)
        assert not task.done()
    assert null.is_char_device()
    assert sorted(os.listdir(tmp_path)) == ["device", "link"]


@needs_devices
async def test_a_full_device_is_named_and_stays_one(tmp_path: Path) -> None:
    store, full = Store(), device(tmp_path / "full", FULL)
    fill(store, WEB)
    with pytest.raises(UserError, match="full: cannot write: No space left on device"):
        await write_state_file(store, str(full))
    assert full.is_char_device()


async def test_a_fifo_gets_one_document_a_change(tmp_path: Path) -> None:
    store, fifo = Store(), tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    async with writing(store, fifo):
        for name in ("web", "other"):
            fill(store, Service(namespace="demo", name=name))
            await asyncio.sleep(0.2)
    documents = [document for _, document in load_documents(os.read(reader, 1 << 16).decode())]
    os.close(reader)
    assert [names_of(document) for document in documents] == [["web"], ["other"]]
    assert fifo.is_fifo()


async def test_a_fifo_without_a_reader_is_told_and_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kpng.sinks.file._RETRY_SECONDS", 0.02)
    store, fifo = Store(), tmp_path / "fifo"
    os.mkfifo(fifo)
    fill(store, WEB)
    async with writing(store, fifo):
        await asyncio.sleep(0.1)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        await asyncio.sleep(0.2)
    assert names_in_text(os.read(reader, 1 << 16).decode()) == ["web"]
    os.close(reader)
    assert [record.getMessage() for record in caplog.records] == [
        f"{fifo}: cannot write: nobody reads it; trying again"
    ]


async def test_a_folder_that_vanishes_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, path = Store(), tmp_path / "sub" / "state.yaml"
    path.parent.mkdir()
    async with writing(store, path):
        fill(store, WEB)
        await until(path.exists)
        path.unlink()
        path.parent.rmdir()
        fill(store, Service(namespace="demo", name="other"))
        await until(lambda: "cannot write" in caplog.text)
        path.parent.mkdir()
        await until(path.exists)
        assert names_in(path) == ["other"]


def test_a_replaced_file_keeps_its_mode_and_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to("real.yaml")
    replace_file(str(link), "new")
    assert real.read_text() == "new"
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_failed_replacement_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "state.yaml"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(str(path), "new \ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state.yaml"]


def test_endpoints_of_unknown_services_are_in_the_state_but_have_no_place_in_the_file() -> None:
    store = Store()
    with store.transaction() as tx:
        tx.set_source("s", ServiceKey("demo", "ghost"), [EndpointInfo(addresses=IPSet(("10.1.0.5",)))])
    state = state_of(store.snapshot)
    assert list(state.sources) == [("demo", "s")]
    assert not state.services
