"""Endpoint keys: the last part of the path ``namespace/service/key``, unique within a service."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from kpng.model import EndpointInfo

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def endpoint_keys(endpoints: Iterable[tuple[str, EndpointInfo]]) -> list[str]:
    """One key for each (source, endpoint), in order.

    An endpoint with a pod is named after it, as in Go kpng; its IPv6-only part gets ``:ipv6`` (no pod name
    has a colon), so that both addresses of a dual-stack pod stay. Without a pod the key is a hash of what
    identifies it; also where the pod's name is none, as keys are parts of paths and of printed lines. A key
    already taken (one pod in two slices of a family) gets its source appended.
    """
    taken: set[str] = set()
    keys = []
    for source, endpoint in endpoints:
        key = _base(endpoint)
        if key in taken and _NAME.fullmatch(source):
            key = f"{key}:{source}"
        if key in taken:
            key = f"{key}:{_digest(endpoint)}"
        while key in taken:
            key += "+"
        taken.add(key)
        keys.append(key)
    return keys


def _base(endpoint: EndpointInfo) -> str:
    if not _NAME.fullmatch(endpoint.pod_name):
        return _digest(endpoint)
    return endpoint.pod_name if endpoint.addresses.v4 else f"{endpoint.pod_name}:ipv6"


def _digest(endpoint: EndpointInfo) -> str:
    """16 hex digits over the endpoint's identity (not its conditions, so that a change stays a change)."""
    identity = (endpoint.addresses, endpoint.ports, endpoint.hostname, endpoint.pod_name)
    return blake2b(msgspec.msgpack.encode(identity), digest_size=8).hexdigest()
