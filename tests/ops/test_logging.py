from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from typing import Any

import pytest

from kpng.model import ServiceKey
from kpng.ops.logging import FORMATS, LEVELS, JSONFormatter, TextFormatter, one_line

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def record(message: str, *args: object, error: BaseException | None = None, **extra: object) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.getLogger("kpng.test").makeRecord(
        "kpng.test", logging.WARNING, "file.py", 7, message, args, exc_info, extra=extra
    )


def raised(message: str) -> Exception:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def as_text(made: logging.LogRecord) -> str:
    return TextFormatter().format(made)


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JSONFormatter().format(made)
    assert "\n" not in line
    fields: dict[str, Any] = json.loads(line)
    return fields


def test_text_is_time_level_logger_message() -> None:
    assert re.fullmatch(TIME + r" WARNING kpng\.test: 3 services", as_text(record("%d services", 3)))


def test_json_is_the_same_in_fields() -> None:
    fields = as_json(record("%d services", 3))
    assert re.fullmatch(TIME, fields.pop("time"))
    assert fields == {"level": "warning", "logger": "kpng.test", "message": "3 services"}


# What somebody could put into a name to write log lines of their own, or to drive the terminal.
HOSTILE = [
    ("a\nb", "a\\nb"),
    ("a\r\nb", "a\\r\\nb"),
    ("\x1b[2Jgone", "\\x1b[2Jgone"),
    ("bell\a null\0 tab\t", "bell\\x07 null\\x00 tab\\t"),
    ("next\x85line\u2028\u2029", "next\\x85line\\u2028\\u2029"),
    ("right\u202eleft", "right\\u202eleft"),
    ("lone\ud800", "lone\\ud800"),
    ("bücher/日本 stay", "bücher/日本 stay"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_no_name_starts_a_line_of_its_own(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert as_text(record("bad name: %s", text)).endswith(f"bad name: {shown}")
    assert as_json(record("bad name: %s", text))["message"] == f"bad name: {text}"


def test_a_traceback_is_indented_and_cannot_look_like_another_record() -> None:
    lines = as_text(
        record("failed", error=raised("boom\n2026-01-01T00:00:00.000Z INFO kpng: all is well"))
    ).splitlines()
    assert lines[0].endswith("WARNING kpng.test: failed")
    assert lines[1] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in lines[1:])


def test_a_traceback_is_a_field_in_json() -> None:
    traceback = as_json(record("failed", error=raised("boom")))["traceback"]
    assert traceback.startswith("Traceback")
    assert traceback.endswith("ValueError: boom")


def test_extras_are_fields_of_their_own() -> None:
    fields = as_json(
        record("serving", event="serving", address="[::]:12090", key=ServiceKey("demo", "web"), odd={1})
    )
    assert (fields["event"], fields["address"]) == ("serving", "[::]:12090")
    assert fields["key"] == ["demo", "web"]
    assert fields["odd"] == "{1}"


def test_extras_never_replace_what_every_record_has() -> None:
    fields = as_json(record("real", time="never", level="none", logger="forged"))
    assert fields["time"] != "never"
    assert (fields["level"], fields["logger"]) == ("warning", "kpng.test")


def test_what_json_cannot_hold_does_not_lose_the_record() -> None:
    assert as_json(record("m", by_key={ServiceKey("demo", "web"): 1, "plain": 2}))["by_key"] == {"plain": 2}


def said(style: str, level: str, code: str) -> list[str]:
    """What a fresh process says on standard error; standard output must stay free for data."""
    program = (
        f"import logging\nfrom kpng.ops import configure_logging\nconfigure_logging({level!r}, {style!r})\n{code}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


EVERY_LEVEL = "for level in (10, 20, 30, 40): logging.getLogger('kpng.x').log(level, str(level))"


@pytest.mark.parametrize(("level", "shown"), list(zip(LEVELS, (4, 3, 2, 1), strict=True)))
def test_levels(level: str, shown: int) -> None:
    assert len(said("text", level, EVERY_LEVEL)) == shown


@pytest.mark.parametrize("style", FORMATS)
def test_each_style_goes_to_standard_error_once(style: str) -> None:
    twice = "configure_logging('info', %r); logging.getLogger('kpng.x').info('hello')" % style  # noqa: UP031
    (line,) = said(style, "info", twice)
    assert line.startswith("{") == (style == "json")
    assert "hello" in line


def test_libraries_that_chatter_are_kept_down() -> None:
    chatter = (
        "for name in ('asyncio', 'aiohttp.access', 'watchfiles.main'): logging.getLogger(name).info('chatter')"
    )
    assert said("text", "debug", chatter) == []
