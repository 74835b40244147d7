"""Manifests that kpng follows."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

import pytest

from kpng.load import Churn, Shape, Write, endpoint_slices, nodes, services
from kpng.load.files import FileWriter
from kpng.model import UserError

SHAPE = Shape(services=250, endpoints=2, nodes=3)


async def filled(path: Path) -> FileWriter:
    writer = FileWriter(path)
    with writer.together():
        for made in (nodes, services, endpoint_slices):
            for thing in made(SHAPE):
                await writer.write(Write("create", thing))
    return writer


def read(path: Path) -> list[str]:
    return [f"{item['kind']}/{item['metadata']['name']}" for item in json.loads(path.read_text())["items"]]


async def test_a_folder_has_a_file_for_every_hundred_services(tmp_path: Path) -> None:
    await filled(tmp_path / "state")
    files = {path.name: len(read(path)) for path in (tmp_path / "state").iterdir()}
    assert files == {
        "nodes.json": 3,
        "services-00000.json": 200,
        "services-00001.json": 200,
        "services-00002.json": 100,
    }


@pytest.mark.parametrize("name", ["state.json", "state.yaml", "state.yml"])
async def test_one_file_has_everything(tmp_path: Path, name: str) -> None:
    await filled(tmp_path / name)
    assert len(read(tmp_path / name)) == 3 + 250 + 250
    assert os.listdir(tmp_path) == [name]


async def test_a_change_replaces_its_file_only(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    writer = await filled(folder)
    before = {path: path.stat().st_ino for path in folder.iterdir()}
    (write,) = Churn(SHAPE).replace(123).writes
    await writer.write(write)
    changed = [path.name for path, inode in before.items() if path.stat().st_ino != inode]
    assert changed == ["services-00001.json"]
    assert write.object in json.loads((folder / "services-00001.json").read_text())["items"]


async def test_the_files_hold_what_the_churn_has_come_to(tmp_path: Path) -> None:
    writer, churn = await filled(tmp_path / "all.json"), Churn(SHAPE)
    for change in islice(churn, 100):
        for write in change.writes:
            await writer.write(write)
    items = json.loads((tmp_path / "all.json").read_text())["items"]
    kept = {item["metadata"]["name"]: item for item in items if item["kind"] == "EndpointSlice"}
    assert kept == {thing["metadata"]["name"]: thing for thing in churn.endpoint_slices()}


async def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "all.json")
    await writer.write(Write("delete", next(endpoint_slices(SHAPE))))
    assert len(read(tmp_path / "all.json")) == 3 + 250 + 249


async def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one is complete, under a name that kpng does not look at, before it takes the old one's place."""
    writer = await filled(tmp_path / "state.json")
    seen: list[tuple[str, int]] = []
    plain = os.replace

    def watched(new: Path, old: Path) -> None:
        assert len(read(old)) == len(read(new)) == 503
        seen.append((new.name, len(read(new))))
        plain(new, old)

    monkeypatch.setattr(os, "replace", watched)
    await writer.write(Churn(SHAPE).replace(0).writes[0])
    assert seen == [(".state.json.new", 503)]


async def test_where_it_cannot_write_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x/nodes.json: cannot write: "):
        await filled(tmp_path / "file" / "x")
