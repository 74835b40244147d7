"""YAML from strangers, read as Kubernetes reads it: with errors that name the line, and no way to blow up.

Built from libyaml's events in one loop. PyYAML's own loaders recurse in C and crash the process at some 10,000
nested brackets, make dates out of strings and a base-60 number out of ``2001:0:0:1``, let the last of two equal
keys win, and let aliases expand without bound ("billion laughs"). Kubernetes turns YAML into JSON: keys are
strings, and there are no types but JSON's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import yaml

MAX_CHARACTERS = 256 * 1024 * 1024
MAX_DEPTH = 200
MAX_EXPANDED_NODES = 1_000_000
"""How many nodes all aliases of one document may stand for."""

Twice = Callable[[int, str], None]
"""Told of a key that is given twice: its line and its name."""

Data = None | bool | int | float | str | list["Data"] | dict[str, "Data"]

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"0o?(?P<octal>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)|0b(?P<binary>[01]+)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?|[0-9]*\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_BASES = {"octal": 8, "hex": 16, "binary": 2}
_MAX_DIGITS = 300
_WORDS: dict[str, Data] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_STRING_TAGS = ("!", "tag:yaml.org,2002:str")
_PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_COLLECTION_TAGS = ("!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class YAMLSyntaxError(ValueError):
    """Text that is not YAML, or not YAML of the safe kind. ``line`` counts from 1; 0 where there is none."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line
        self.message = message


def load_documents(text: str, twice: Twice | None = None) -> Iterator[tuple[int, Data]]:
    """Each document with the line it begins on; empty documents are left out. Raises `YAMLSyntaxError`.

    A key given twice is an error too, unless ``twice`` is there to be told; then the last one counts.
    """
    if len(text) > MAX_CHARACTERS:
        raise YAMLSyntaxError(0, f"more than {MAX_CHARACTERS} characters")
    builder = _Builder(twice)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(twice)
            elif isinstance(event, yaml.DocumentEndEvent):
                if builder.root is not None:
                    yield builder.line, builder.root
            elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
                builder.take(event)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise YAMLSyntaxError(line, error.problem or "not YAML") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise YAMLSyntaxError(0, " ".join(str(error).split())) from None


def resolve_scalar(text: str) -> Data:
    """What an unquoted scalar means (YAML 1.1 as Kubernetes' parser reads it, without dates and base 60)."""
    if text in _WORDS:
        return _WORDS[text]
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    if len(text) > _MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if other := _OTHER_BASE.fullmatch(text):
        return int(other[other.lastgroup or 0], _BASES[other.lastgroup or ""])
    return float(text) if _FLOAT.fullmatch(text) else text


class _Frame:
    """A collection that is being built. ``key`` is what the next value belongs to, in a mapping."""

    __slots__ = ("anchor", "before", "data", "key", "merged")

    def __init__(self, data: list[Data] | dict[str, Data], anchor: str | None, before: int) -> None:
        self.data = data
        self.anchor = anchor
        self.before = before
        self.key: str | None = None
        self.merged: list[Data] | None = None


class _Builder:
    """Puts one document together."""

    def __init__(self, twice: Twice | None) -> None:
        self._twice = twice
        self.root: Data = None
        self.line = 0
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Data, int]] = {}
        self._nodes = 0
        self._expanded = 0

    def take(self, event: yaml.Event) -> None:
        """The next event of the document."""
        self.line = self.line or _line(event)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._nodes += 1
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.data, dict) and frame.key is None:
            self._key(frame, event)
            return
        value = _scalar_value(event)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._add(value, event)

    def _key(self, frame: _Frame, event: yaml.ScalarEvent) -> None:
        if event.value in frame.data:
            if self._twice is None:
                raise _error(event, f"{event.value!r} is given twice")
            self._twice(_line(event), event.value)
        if event.anchor:
            self._anchors[event.anchor] = (event.value, 1)
        frame.key = event.value
        if event.value == "<<" and event.implicit[0]:
            frame.merged = []

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        if event.tag and event.tag not in _COLLECTION_TAGS:
            raise _error(event, f"the tag {event.tag} is not supported")
        if len(self._frames) >= MAX_DEPTH:
            raise _error(event, f"nested more than {MAX_DEPTH} levels deep")
        self._check_not_key(event)
        data: list[Data] | dict[str, Data] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._frames.append(_Frame(data, event.anchor, self._nodes))
        self._nodes += 1

    def _end(self, event: yaml.CollectionEndEvent) -> None:
        frame = self._frames.pop()
        if frame.merged and isinstance(frame.data, dict):
            _merge(frame.data, frame.merged, event)
        if frame.anchor:
            self._anchors[frame.anchor] = (frame.data, self._nodes - frame.before)
        self._add(frame.data, event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise _error(event, f"alias *{event.anchor} stands for nothing that came before")
        self._check_not_key(event)
        value, size = self._anchors[event.anchor]
        self._nodes += size
        self._expanded += size
        if self._expanded > MAX_EXPANDED_NODES:
            raise _error(event, f"aliases stand for more than {MAX_EXPANDED_NODES} nodes")
        self._add(value, event)

    def _add(self, value: Data, event: yaml.Event) -> None:
        if not self._frames:
            self.root = value
            return
        frame = self._frames[-1]
        if isinstance(frame.data, list):
            frame.data.append(value)
            return
        if frame.merged == []:
            frame.merged = value if isinstance(value, list) else [value]
            if not frame.merged or not all(isinstance(part, dict) for part in frame.merged):
                raise _error(event, "<<: is for mappings only")
        elif frame.key is not None:
            frame.data[frame.key] = value
        frame.key = None

    def _check_not_key(self, event: yaml.Event) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.data, dict) and frame.key is None:
            raise _error(event, "a key must be a plain string")


def _scalar_value(event: yaml.ScalarEvent) -> Data:
    if event.tag in _STRING_TAGS or (event.tag is None and not event.implicit[0]):
        return str(event.value)
    if event.tag is None or event.tag in _PLAIN_TAGS:
        return resolve_scalar(event.value)
    raise _error(event, f"the tag {event.tag} is not supported")


def _merge(data: dict[str, Data], merged: list[Data], event: yaml.Event) -> None:
    """Merge keys (YAML 1.1): what is given directly wins, then the earlier of the merged."""
    for part in merged:
        if isinstance(part, dict):
            for key, value in part.items():
                data.setdefault(key, value)
    if len(data) > MAX_EXPANDED_NODES:
        raise _error(event, "too many merged keys")


def _error(event: yaml.Event, message: str) -> YAMLSyntaxError:
    return YAMLSyntaxError(_line(event), message)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
