"""Files followed while they change, with real inotify."""

# ruff: noqa: ASYNC240 (the files are small, and when they change is what is tested)

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kpng.model import ProblemLog, ServiceKey, UserError
from kpng.sources.file import FileSource
from kpng.store import Store


def service(name: str = "web", address: str = "10.96.0.10") -> str:
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo}}\n"
        f"spec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n"
    )


def replace(path: Path, text: str) -> None:
    """As editors and `to-file` do it: written beside, renamed over."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.rename(path)


class Following:
    def __init__(self, path: Path | str, problems: ProblemLog) -> None:
        self.store = Store()
        self.problems = problems
        self.task = asyncio.create_task(FileSource(str(path), problems).run(self.store))

    @property
    def names(self) -> set[str]:
        return {key.name for key in self.store.snapshot.services}

    def address(self, name: str = "web") -> str:
        record = self.store.snapshot.services[ServiceKey("demo", name)]
        assert record.service is not None
        return record.service.cluster_ips.v4[0]

    def lines(self) -> list[str]:
        return [str(problem) for problem in self.problems.current]

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def following(path: Path | str) -> AsyncIterator[Following]:
    follow = Following(path, ProblemLog())
    try:
        yield follow
    finally:
        follow.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follow.task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(service())
    return path


async def test_a_file_is_read_and_complete(path: Path) -> None:
    async with following(path) as follow:
        await follow.until(lambda: follow.store.snapshot.complete)
        assert follow.names == {"web"}


async def test_a_file_without_services_is_complete_too(path: Path) -> None:
    path.write_text("services: []\n")
    async with following(path) as follow:
        await follow.until(lambda: follow.store.snapshot.complete)


@pytest.mark.parametrize("how", ["write", "rename", "recreate"])
async def test_a_change_is_noticed_soon(path: Path, how: str) -> None:
    async with following(path) as follow:
        await follow.until(lambda: follow.names)
        await asyncio.sleep(0.2)
        if how == "rename":
            replace(path, service("new"))
        else:
            if how == "recreate":
                path.unlink()
            path.write_text(service("new"))
        started = time.monotonic()
        await follow.until(lambda: follow.names == {"new"})
        assert time.monotonic() - started < 0.9


async def test_every_one_of_many_replacements_ends_in_the_last(path: Path) -> None:
    async with following(path) as follow:
        for number in range(30):
            replace(path, service(f"v{number}"))
            await asyncio.sleep(0.01)
        await follow.until(lambda: follow.names == {"v29"})


async def test_a_touched_file_is_no_new_revision(path: Path) -> None:
    async with following(path) as follow:
        await follow.until(lambda: follow.names)
        revision = follow.store.snapshot.revision
        path.touch()
        replace(path, service() + "# a comment\n")
        await asyncio.sleep(0.4)
        assert follow.store.snapshot.revision == revision


async def test_one_reload_is_one_revision(path: Path) -> None:
    async with following(path) as follow:
        await follow.until(lambda: follow.names)
        revision = follow.store.snapshot.revision
        replace(path, "---\n".join(service(f"s{number}") for number in range(50)))
        await follow.until(lambda: len(follow.names) == 50)
        assert follow.store.snapshot.revision == revision + 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "{path}: the file is empty; what it held last is kept"),
        (service()[:50], "{path}:4: not valid YAML: did not find expected node content; what it held last is kept"),
        ("a: 1\na: 2\n", "{path}:2: not valid YAML: 'a' is given twice; what it held last is kept"),
    ],
)
async def test_a_broken_file_keeps_the_last_good_state(
    path: Path, text: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with following(path) as follow:
        await follow.until(lambda: follow.names)
        replace(path, text)
        await follow.until(lambda: follow.problems.current)
        assert follow.lines() == [line.format(path=path)]
        assert follow.names == {"web"}
        replace(path, service("mended"))
        await follow.until(lambda: follow.names == {"mended"})
        assert follow.lines() == []
        assert "mended or gone" in caplog.text


async def test_a_file_that_goes_away_keeps_its_state(path: Path) -> None:
    async with following(path) as follow:
        await follow.until(lambda: follow.names)
        path.unlink()
        await follow.until(lambda: follow.problems.current)
        assert follow.lines() == [f"{path}: no such file or directory; what it held last is kept"]
        assert follow.names == {"web"}
        path.write_text(service())
        await follow.until(lambda: not follow.problems.current)


async def test_a_file_that_is_bad_from_the_start_is_not_an_empty_state(path: Path) -> None:
    path.write_text("kind: [")
    async with following(path) as follow:
        await follow.until(lambda: follow.problems.current)
        assert not follow.store.snapshot.synced
        replace(path, service())
        await follow.until(lambda: follow.store.snapshot.complete)


async def test_a_bad_object_is_told_once_and_mended(path: Path) -> None:
    bad = service("odd", "10.96.0.400")
    async with following(path) as follow:
        replace(path, f"{service()}---\n{bad}")
        await follow.until(lambda: follow.problems.current)
        replace(path, f"{service('more')}---\n{bad}")
        await follow.until(lambda: "more" in follow.names)
        assert follow.lines() == [f"{path}: Service demo/odd: spec.clusterIP: '10.96.0.400' is not an IP address"]
        assert follow.problems.total == 1
        replace(path, service())
        await follow.until(lambda: not follow.problems.current)


async def test_a_config_map_volume(tmp_path: Path) -> None:
    """The kubelet swaps one symbolic link; the files' own links never change."""

    def version(number: int) -> None:
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "web.yaml").write_text(service(f"v{number}"))
        (tmp_path / "..data_tmp").symlink_to(f"..{number}")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    version(1)
    (tmp_path / "web.yaml").symlink_to("..data/web.yaml")
    async with following(tmp_path) as folder, following(tmp_path / "web.yaml") as file:
        await folder.until(lambda: folder.names == file.names == {"v1"})
        version(2)
        shutil.rmtree(tmp_path / "..1")
        await folder.until(lambda: folder.names == file.names == {"v2"})
        assert folder.lines() == file.lines() == []


# -- folders ---------------------------------------------------------------------------------------


async def test_a_folder_and_what_is_below_it(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "sub" / "b.yml").write_text(service("b"))
    (tmp_path / "sub" / "deep" / "c.json").write_text('{"kind": "List", "items": []}')
    (tmp_path / "notes.txt").write_text("not yaml: [")
    (tmp_path / ".hidden.yaml").write_text("not yaml: [")
    async with following(tmp_path) as follow:
        await follow.until(lambda: follow.store.snapshot.complete)
        assert follow.names == {"a", "b"}
        assert follow.lines() == []


async def test_a_folder_without_manifests_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "notes.txt").write_text(service())
    line = f"{tmp_path}: no manifests in this folder (looked for *.yaml, *.yml, *.json)"
    async with following(tmp_path) as follow:
        await follow.until(lambda: follow.store.snapshot.complete)
        assert follow.lines() == [line]
        (tmp_path / "more.txt").touch()
        (tmp_path / "web.yaml").write_text(service())
        await follow.until(lambda: follow.names and not follow.lines())
        (tmp_path / "web.yaml").unlink()
        await follow.until(lambda: not follow.names and follow.lines() == [line])
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [line, line]


async def test_files_come_and_go(tmp_path: Path) -> None:
    async with following(tmp_path) as follow:
        await follow.until(lambda: follow.store.snapshot.complete)
        assert follow.names == set()
        (tmp_path / "a.yaml").write_text(service("a"))
        await follow.until(lambda: follow.names == {"a"})
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "b.yaml").write_text(service("b"))
        await follow.until(lambda: follow.names == {"a", "b"})
        (tmp_path / "a.yaml").unlink()
        await follow.until(lambda: follow.names == {"b"})


async def test_a_broken_file_in_a_folder_spoils_only_itself(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "b.yaml").write_text("kind: [")
    async with following(tmp_path) as follow:
        await follow.until(lambda: follow.names == {"a"})
        assert len(follow.lines()) == 1
        replace(tmp_path / "b.yaml", service("b"))
        await follow.until(lambda: follow.names == {"a", "b"})
        replace(tmp_path / "b.yaml", "broken: [")
        replace(tmp_path / "a.yaml", service("a2"))
        await follow.until(lambda: follow.names == {"a2", "b"} and follow.lines())


async def test_the_first_of_two_files_counts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service(address="10.96.0.1"))
    (tmp_path / "b.yaml").write_text(service(address="10.96.0.2"))
    async with following(tmp_path) as follow:
        await follow.until(lambda: follow.names)
        assert follow.address() == "10.96.0.1"
        assert follow.lines() == [
            f"{tmp_path}/b.yaml: Service demo/web: is already in {tmp_path}/a.yaml, which counts"
        ]
        (tmp_path / "a.yaml").unlink()
        await follow.until(lambda: follow.address() == "10.96.0.2" and not follow.lines())


async def test_a_folder_that_vanishes_keeps_its_state_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "a.yaml").write_text(service("a"))
    async with following(folder) as follow:
        await follow.until(lambda: follow.names)
        shutil.rmtree(folder)
        await follow.until(lambda: any("no such file" in line for line in follow.lines()))
        assert follow.names <= {"a"}
        folder.mkdir()
        (folder / "b.yaml").write_text(service("b"))
        await follow.until(lambda: follow.names == {"b"} and not follow.lines())


# -- what the user can mend, standard input, the end -----------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.yaml", "no such file or directory"),
        ("missing/web.yaml", "no such file or directory"),
        ("web.yaml/x", "not a directory"),
    ],
)
async def test_a_path_that_cannot_be_read(path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"{name}: {message}$"):
        await FileSource(str(path.parent / name), ProblemLog()).run(Store())


async def test_it_ends_at_once_when_cancelled(path: Path) -> None:
    async with following(path) as follow:
        await follow.until(lambda: follow.names)
        await asyncio.sleep(0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 0.5


PROGRAM = """
import asyncio
from kpng.model import ProblemLog, UserError
from kpng.sources.file import FileSource
from kpng.store import Store
store = Store()
try:
    asyncio.run(FileSource("-", ProblemLog()).run(store))
    print(store.snapshot.complete, *store.snapshot.services)
except UserError as error:
    print("error:", error)
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (service(), "True demo/web\n"),
        ("services: []\n", "True\n"),
        ("", "error: standard input: the file is empty\n"),
        ("a: 1\nb: [\n", "error: standard input:3: not valid YAML: did not find expected node content\n"),
    ],
)
def test_standard_input(text: str, said: str) -> None:
    program = PROGRAM.replace("*store.snapshot.services", "*map(str, store.snapshot.services)")
    done = subprocess.run([sys.executable, "-c", program], input=text, capture_output=True, text=True, check=True)
    assert done.stdout == said


FOLLOWS = """
import asyncio, pathlib, sys
from kpng.model import ProblemLog
from kpng.sources.file import FileSource
from kpng.store import EMPTY, Store

pathlib.Path("/proc/sys/user/max_inotify_instances").write_text("0")

async def follow():
    store, seen = Store(), EMPTY
    running = asyncio.create_task(FileSource(sys.argv[1], ProblemLog()).run(store))
    for _ in range(2):
        newer = asyncio.create_task(store.newer(seen))
        await asyncio.wait([newer, running], return_when=asyncio.FIRST_COMPLETED)
        seen = newer.result() if newer.done() else running.result()
        print(*map(str, seen.services), flush=True)
    running.cancel()

asyncio.run(follow())
"""


@pytest.mark.netns
def test_where_no_inotify_instance_is_left_it_is_looked_at_again(tmp_path: Path) -> None:
    """There are 128 for all of a user's processes, and a node's containers are all root's. Here: a user namespace,
    which has a limit of its own."""
    path = tmp_path / "one.yaml"
    path.write_text(service())
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", FOLLOWS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            assert following.stdout.readline() == "demo/web\n"
            replace(path, service("other"))
            assert following.stdout.readline() == "demo/other\n"
        finally:
            following.kill()
