"""Paths: how ops name objects. Local ones are joined by a slash, global ones by a bar, as in the Go kpng."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from kpng.model import ServiceKey, is_name

ENDPOINT_KEY = "[A-Za-z0-9][A-Za-z0-9._:+=-]{0,1023}"
"""A regular expression. Of ours see `kpng.localize.keys`; the Go kpng's are pods' names and hashes."""
_IS_ENDPOINT_KEY = re.compile(ENDPOINT_KEY).fullmatch
_NAME = r"[a-z0-9][-a-z0-9.]{0,252}(?<![-.])"  # as `is_name` has it
_GLOBAL = re.compile(rf"({_NAME})?\|({_NAME})?\|({_NAME})?\|({_NAME})?")
_SHOWN = 512  # more than two names of 253


def local_service_path(key: ServiceKey) -> str:
    return f"{key.namespace}/{key.name}"


def local_endpoint_path(key: ServiceKey, name: str) -> str:
    """``name`` is the endpoint's key in `LocalService.endpoints`."""
    return f"{key.namespace}/{key.name}/{name}"


@lru_cache(maxsize=1024)  # the endpoints of a service come one after the other
def parse_local_service(path: str) -> ServiceKey | None:
    namespace, _, name = path.partition("/")
    return ServiceKey(namespace, name) if is_name(namespace) and is_name(name) else None


def parse_local_endpoint(path: str) -> tuple[ServiceKey, str] | None:
    service, _, key = path.rpartition("/")
    parent = parse_local_service(service)
    return (parent, key) if parent and _IS_ENDPOINT_KEY(key) else None


def shown(path: str) -> str:
    """A path as problems name it: whatever a peer sends, not at any length."""
    return path if len(path) <= _SHOWN else path[:_SHOWN] + "..."


class GlobalPath(NamedTuple):
    """A key of the Go kpng's store: names, and a hash; what does not apply is empty."""

    namespace: str = ""
    name: str = ""
    source: str = ""
    key: str = ""

    def __str__(self) -> str:
        return "|".join(self)

    @classmethod
    def parse(cls, path: str) -> GlobalPath | None:
        parts = _GLOBAL.fullmatch(path)
        return cls(*parts.groups("")) if parts else None
