"""How the scenario's node is set up, in the words of a backend's command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from kpng.backends import Backend
from kpng.model import UserError

from .flows import NodeFacts

Words = tuple[str, ...]


def arguments(node: NodeFacts, backend: type[Backend]) -> list[str]:
    """The options of this backend that say what the node's facts are; an option it does not have is left out, and
    the flows that need it fail."""
    known = {name for option in backend.options for name in option.opts}
    return [word for words in _wanted(node) if words[0] in known for word in words]


def _wanted(node: NodeFacts) -> Iterator[Words]:
    yield from _detection(node)
    if node.masquerade_all:
        yield ("--masquerade-all",)
    if node.nodeport_addresses:
        yield "--nodeport-addresses", ",".join(node.nodeport_addresses)


def _detection(node: NodeFacts) -> Iterator[Words]:
    """The mode ClusterCIDR is every backend's default; without a CIDR there is no detection."""
    mode, value = node.detect_local.mode, node.detect_local.value
    if mode == "none":
        return
    if mode != "ClusterCIDR":
        yield "--detect-local-mode", mode
    if mode == "BridgeInterface":
        yield "--pod-bridge-interface", value
    elif mode == "InterfaceNamePrefix":
        yield "--pod-interface-name-prefix", value
    elif mode == "ClusterCIDR":
        yield "--cluster-cidr", value


def construct(backend: type[Backend], words: list[str]) -> Backend:
    """Make the backend as its command does from these words. Raises `kpng.UserError`."""
    command = click.Command("to-backend", params=[*backend.options])
    try:
        values: dict[str, Any] = command.make_context("to-backend", list(words)).params
    except click.ClickException as error:
        raise UserError(f"this backend cannot be started: {' '.join((*words, error.format_message()))}") from None
    return backend(**values)
