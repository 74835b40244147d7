"""Log lines: text for people, JSON for machines. One line a record, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(level: str, style: str) -> None:
    """Send all log records to standard error, from ``level`` (of `LEVELS`) on, in a style of `FORMATS`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("asyncio", "aiohttp.access", "watchfiles.main"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def one_line(text: str) -> str:
    """Text without control characters: a name from outside can never start a log line of its own."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TextFormatter(logging.Formatter):
    """``2026-11-23T10:00:00.000Z INFO kpng.client: connected``; a traceback follows on indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {one_line(record.getMessage())}"
        traceback = self.formatException(record.exc_info) if record.exc_info else ""
        return "\n    ".join([line, *map(one_line, traceback.splitlines())])


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, whatever was passed as ``extra``, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        extras = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        ours_first_and_last_word = fields | extras | fields
        return json.dumps(ours_first_and_last_word, default=str, skipkeys=True)
