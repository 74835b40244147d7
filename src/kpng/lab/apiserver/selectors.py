"""Label and field selectors (apimachinery's labels and fields grammar)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.registry import Key, Kind, Object

Match = Callable[[Object], bool]

_TOKEN = re.compile(r"\s*(==|!=|[=!<>(),]|[^\s=!<>(),]+)")
_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_FIELD_TERM = re.compile(r"([^=!,]+)(==|!=|=)((?:\\.|[^\\,=])*)")
_EVERYWHERE = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True)
class Requirement:
    """One term of a label selector; ``operator`` is one of: in, notin, exists, !, gt, lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        try:
            left, right = int(value or ""), int(self.values[0])
        except ValueError:
            return False
        return left > right if self.operator == "gt" else left < right


def parse_labels(text: str) -> list[Requirement]:
    """Parse a label selector: "a=b,c!=d,e in (f,g),!h,i>3". Raises 400."""
    parser = _Parser(text)
    requirements = []
    while parser.peek():
        requirements.append(parser.requirement())
        if parser.peek() and parser.take() != ",":
            raise parser.error("expected ','")
    return requirements


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)
        self.tokens.reverse()

    def peek(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def take(self) -> str:
        return self.tokens.pop() if self.tokens else ""

    def error(self, why: str) -> errors.ApiError:
        return errors.bad_request(f"unable to parse requirement: {why}, in selector {self.text!r}")

    def requirement(self) -> Requirement:
        if self.peek() == "!":
            self.take()
            return Requirement(self.key(), "!")
        key = self.key()
        if self.peek() in ("", ","):
            return Requirement(key, "exists")
        match self.take():
            case "=" | "==":
                return Requirement(key, "in", (self.value(),))
            case "!=":
                return Requirement(key, "notin", (self.value(),))
            case "in" | "notin" as operator:
                return Requirement(key, operator, self.values())
            case ">" | "<" as sign:
                return Requirement(key, "gt" if sign == ">" else "lt", (self.number(),))
            case operator:
                raise self.error(f"unknown operator {operator!r}")

    def key(self) -> str:
        key = self.take()
        if not _KEY.fullmatch(key):
            raise self.error(f"invalid label key {key!r}")
        return key

    def value(self) -> str:
        value = "" if self.peek() in (",", ")") else self.take()
        if not _VALUE.fullmatch(value):
            raise self.error(f"invalid label value {value!r}")
        return value

    def number(self) -> str:
        value = self.take()
        if not re.fullmatch(r"-?\d+", value):
            raise self.error(f"for 'Gt', 'Lt' operators, the value must be an integer, got {value!r}")
        return value

    def values(self) -> tuple[str, ...]:
        if self.take() != "(":
            raise self.error("expected '('")
        values = [self.value()]
        while (token := self.take()) == ",":
            values.append(self.value())
        if token != ")":
            raise self.error("expected ')'")
        return tuple(values)


def parse_fields(kind: Kind, text: str) -> list[tuple[str, bool, str]]:
    """Parse a field selector into (path, equal, value) terms. Raises 400 for fields the kind does not offer."""
    terms = []
    for piece in filter(None, re.split(r"(?<!\\),", text)):
        found = _FIELD_TERM.fullmatch(piece)
        if not found:
            raise errors.bad_request(f"invalid field selector: {text!r}; can't understand {piece!r}")
        path, operator, value = found.groups()
        if path not in (*_EVERYWHERE, *kind.fields):
            raise errors.bad_request(f"field label not supported: {path}")
        terms.append((path, operator != "!=", re.sub(r"\\(.)", r"\1", value)))
    return terms


def field_value(thing: Object, path: str) -> str:
    """A field as field selectors see it: "" if missing, booleans in lower case."""
    value: Any = thing
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "false" if path == "spec.unschedulable" and value is None else str(value or "")


@dataclass(frozen=True)
class Selection:
    """Which objects of a kind a list or watch is about."""

    namespace: str | None
    labels: tuple[Requirement, ...] = ()
    fields: tuple[tuple[str, bool, str], ...] = ()

    @classmethod
    def parse(cls, kind: Kind, namespace: str | None, labels: str, fields: str) -> Selection:
        """From the query's labelSelector and fieldSelector."""
        return cls(namespace, tuple(parse_labels(labels)), tuple(parse_fields(kind, fields)))

    def matches(self, key: Key, thing: Object) -> bool:
        if self.namespace is not None and key[0] != self.namespace:
            return False
        if self.labels:
            present = thing["metadata"].get("labels") or {}
            if not all(requirement.matches(present) for requirement in self.labels):
                return False
        return all((field_value(thing, path) == value) is equal for path, equal, value in self.fields)
