"""Exit codes: what becomes of what a command's coroutine raises, however deep task groups have wrapped it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator

import click
import pytest

from kpng.cli.output import OutputClosedError
from kpng.cli.running import GC_THRESHOLDS, UserMistake, run_to_end
from kpng.model import UserError


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


async def ends_with(outcome: int | BaseException | None) -> int | None:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


@pytest.mark.parametrize("outcome", [None, 0])
def test_an_end_without_a_fault(outcome: int | None) -> None:
    run_to_end(ends_with(outcome))


def test_a_command_may_say_its_own_exit_code() -> None:
    with pytest.raises(click.exceptions.Exit) as caught:
        run_to_end(ends_with(3))
    assert caught.value.exit_code == 3


MINE = UserError("no such file")
WORLDS = ValueError("surprise")

RAISED: dict[str, tuple[Exception, type[Exception], int, str]] = {
    "the user's": (MINE, UserMistake, 2, "no such file"),
    "the user's in a group": (ExceptionGroup("g", [MINE]), UserMistake, 2, "no such file"),
    "the user's deep down": (
        ExceptionGroup("g", [ExceptionGroup("h", [ExceptionGroup("i", [MINE])])]),
        UserMistake,
        2,
        "no such file",
    ),
    "the user's after another": (ExceptionGroup("g", [WORLDS, MINE]), UserMistake, 2, "no such file"),
    "the first of two of the user's": (
        ExceptionGroup("g", [MINE, UserError("port in use")]),
        UserMistake,
        2,
        "no such file",
    ),
    "another": (WORLDS, click.exceptions.Exit, 1, "ValueError: surprise"),
    "another in a group": (ExceptionGroup("g", [WORLDS]), click.exceptions.Exit, 1, "ValueError: surprise"),
    "the first of two others": (
        ExceptionGroup("g", [ExceptionGroup("h", [OSError("disk")]), WORLDS]),
        click.exceptions.Exit,
        1,
        "OSError: disk",
    ),
}


def test_output_that_nobody_reads_is_an_end_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(click.exceptions.Exit) as caught:
        run_to_end(ends_with(ExceptionGroup("g", [OutputClosedError("gone")])))
    assert caught.value.exit_code == 0
    assert not caplog.records


@pytest.mark.parametrize("name", RAISED)
def test_how_faults_end_the_command(name: str, caplog: pytest.LogCaptureFixture) -> None:
    raised, kind, code, text = RAISED[name]
    with pytest.raises(kind) as caught:
        run_to_end(ends_with(raised))
    assert getattr(caught.value, "exit_code", None) == code
    assert caught.value.__suppress_context__
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert ([str(caught.value)] if code == 2 else logged) == [text]


def test_the_traceback_is_there_for_who_asks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(click.exceptions.Exit):
        run_to_end(ends_with(WORLDS))
    assert "in ends_with" in caplog.text


def test_what_real_task_groups_raise() -> None:
    async def work() -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(asyncio.sleep(10))

            async def deeper() -> None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(ends_with(MINE))

            outer.create_task(deeper())

    with pytest.raises(UserMistake, match="no such file"):
        run_to_end(work())


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    UserMistake("no such file").show()
    assert capsys.readouterr() == ("", "kpng: error: no such file\n")


def test_the_collector_is_calm_while_a_state_is_built() -> None:
    seen = []

    async def work() -> None:
        seen.append(gc.get_threshold())

    run_to_end(work())
    assert seen == [GC_THRESHOLDS]
    assert gc.isenabled()
