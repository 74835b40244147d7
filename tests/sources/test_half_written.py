"""Files caught in the middle of a change: nothing is believed that is only so for a moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kpng.kube.convert import Filters
from kpng.model import ProblemLog
from kpng.sources.file import FileSource
from kpng.sources.files import InputFiles
from kpng.store import Snapshot, Store


def two_services(first: str = "a", second: str = "b") -> str:
    """A manifest whose first half is one too."""
    return "".join(
        f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.0.0.{number}}}\n"
        for number, name in enumerate((first, second), 1)
    )


def halves(text: str) -> tuple[str, str]:
    at = text.index("---", 3)
    return text[:at], text[at:]


def aged(path: Path, seconds: float = 10) -> Path:
    """As if it had been written a while ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
    return path


# -- one look at a time ----------------------------------------------------------------------------


class Folder:
    """A folder with one file, `a.yaml`, that was looked at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "a.yaml"
        self.file.write_text(two_services())
        self.files = InputFiles(str(path), Filters())
        self.files.refresh()

    def names(self) -> set[str]:
        content = self.files.content()
        return {key.name for key in content.state.services} if content else set()

    def look(self) -> tuple[bool, bool, set[str]]:
        """(whether anything changed, whether something is unsettled, the services)."""
        return self.files.refresh(patient=True), self.files.unsettled, self.names()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_first_look_waits_for_nothing(folder: Folder) -> None:
    assert folder.names() == {"a", "b"}
    assert not folder.files.unsettled


def test_a_file_just_written_is_left_for_a_moment(folder: Folder) -> None:
    folder.file.write_text(halves(two_services())[0])
    assert folder.look() == (False, True, {"a", "b"})
    folder.file.write_text(two_services("c", "d"))
    assert folder.look() == (False, True, {"a", "b"})
    aged(folder.file)
    assert folder.look() == (True, False, {"c", "d"})
    assert folder.look() == (False, False, {"c", "d"})


def test_who_is_not_patient_takes_it_as_it_is(folder: Folder) -> None:
    folder.file.write_text(halves(two_services())[0])
    assert folder.files.refresh()
    assert folder.names() == {"a"}


@pytest.mark.parametrize("text", ["", "kind: [", "hello: {"])
def test_a_file_just_truncated_is_no_problem_yet(folder: Folder, text: str) -> None:
    folder.file.write_text(text)
    assert folder.look() == (False, True, {"a", "b"})
    assert folder.files.troubles() == []
    aged(folder.file)
    assert folder.look() == (True, False, {"a", "b"})
    assert len(folder.files.troubles()) == 1


def test_a_file_taken_away_and_put_back(folder: Folder) -> None:
    backup = folder.file.rename(folder.path / "a.yaml~")
    assert folder.look() == (False, True, {"a", "b"})
    backup.rename(folder.file)
    aged(folder.file)
    assert folder.look()[1:] == (False, {"a", "b"})
    folder.file.unlink()
    assert folder.look() == (False, True, {"a", "b"})
    assert folder.look() == (True, False, set())


def test_a_new_file_is_left_for_a_moment_too(folder: Folder) -> None:
    new = folder.path / "b.yaml"
    new.write_text(two_services("c", "d"))
    aged(folder.file)
    assert folder.look()[1:] == (True, {"a", "b"})
    aged(new)
    assert folder.look() == (True, False, {"a", "b", "c", "d"})


def test_a_file_from_the_future_is_read(folder: Folder) -> None:
    folder.file.write_text(two_services("c", "d"))
    aged(folder.file, -3600)
    assert folder.look() == (True, False, {"c", "d"})


# -- followed --------------------------------------------------------------------------------------


class Watched:
    """A followed path, and every state that it has been in."""

    def __init__(self, path: Path) -> None:
        self.store = Store()
        self.problems = ProblemLog()
        self.history: list[set[str]] = []
        self._tasks = [
            asyncio.create_task(FileSource(str(path), self.problems).run(self.store)),
            asyncio.create_task(self._record()),
        ]

    async def _record(self) -> None:
        seen: Snapshot = self.store.snapshot
        while True:
            seen = await self.store.newer(seen)
            self.history.append({key.name for key in seen.services})

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def watched(path: Path) -> AsyncIterator[Watched]:
    follow = Watched(path)
    try:
        await follow.until(lambda: follow.history)
        yield follow
    finally:
        await follow.close()


@pytest.fixture
def _long_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a busy machine's pauses are no quiet."""
    monkeypatch.setattr("kpng.sources.files._QUIET_SECONDS", 0.5)
    monkeypatch.setattr("kpng.sources.file._PATIENT_LOOKS", 100)


@pytest.mark.usefixtures("_long_patience")
@pytest.mark.parametrize("whole_folder", [False, True], ids=["file", "folder"])
async def test_a_file_written_in_two_halves(folder: Folder, whole_folder: bool) -> None:
    """Truncated and written in place, with pauses, as shells and some editors do."""
    async with watched(folder.path if whole_folder else folder.file) as follow:
        first, second = halves(two_services("a", "c"))
        with folder.file.open("w") as file:
            for part in (first, second):
                await asyncio.sleep(0.06)
                file.write(part)
                file.flush()
        await follow.until(lambda: follow.history[-1] == {"a", "c"})
        assert follow.history == [{"a", "b"}, {"a", "c"}]
        assert follow.problems.total == 0


@pytest.mark.usefixtures("_long_patience")
async def test_a_save_that_moves_the_old_file_away_first(folder: Folder) -> None:
    """What vim does (backupcopy=no)."""
    async with watched(folder.path) as follow:
        folder.file.rename(folder.path / "a.yaml~")
        await asyncio.sleep(0.03)
        with folder.file.open("w") as file:
            await asyncio.sleep(0.03)
            file.write(two_services("a", "c"))
        (folder.path / "a.yaml~").unlink()
        await follow.until(lambda: follow.history[-1] == {"a", "c"})
        assert follow.history == [{"a", "b"}, {"a", "c"}]
        assert follow.problems.total == 0


@pytest.mark.usefixtures("_long_patience")
async def test_a_folder_filled_file_by_file_is_one_state(folder: Folder) -> None:
    async with watched(folder.path) as follow:
        for number in range(10):
            (folder.path / f"n{number}.yaml").write_text(two_services(f"x{number}", f"y{number}"))
            await asyncio.sleep(0.01)
        await follow.until(lambda: len(follow.history[-1]) == 22)
        assert len(follow.history) == 2


async def test_a_file_that_is_never_quiet_is_read_all_the_same(folder: Folder) -> None:
    async with watched(folder.file) as follow:
        for number in range(200):
            folder.file.write_text(two_services("a", f"v{number}"))
            await asyncio.sleep(0.01)
            if len(follow.history) > 1:
                break
        assert number < 199
