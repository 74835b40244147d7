"""`to-print`: shows the local state and its changes; touches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import ClassVar

import click
import yaml

from kpng.model import ChangeSet, Endpoint, LocalNode, ServiceChange, ServiceKey

from .contract import Backend
from .document import LocalState

FORMATS = ("text", "json", "yaml")
_SCOPES = ("internal", "external", "short_circuit")


class PrintBackend(Backend):
    """Prints each change (text) or the whole state after each change set (json: a line; yaml: a document)."""

    help = """Print what this node must do, and every change to it. Needs no privileges.

    \b
    kpng file -i state.yaml to-local to-print
    kpng local --api brain:12090 to-print --once --output json | jq .
    """
    options: ClassVar = (
        click.Option(
            ["--output", "-o"],
            type=click.Choice(FORMATS),
            default="text",
            show_default=True,
            help="text: one line a change; json: the whole state, one line after each change set; "
            "yaml: likewise, one document.",
        ),
    )

    def __init__(self, output: str = "text") -> None:
        self._output = output
        self._state = LocalState()

    async def apply(self, changes: ChangeSet) -> None:
        if self._output == "text":
            text = "\n".join(change_lines(changes))
        else:
            self._state = self._state.after(changes)
            document = self._state.document()
            text = json.dumps(document) if self._output == "json" else "---\n" + yaml.safe_dump(document).rstrip()
        print(text, flush=True)


def change_lines(changes: ChangeSet) -> Iterator[str]:
    """A change set for people: ``+`` new, ``~`` changed, ``-`` gone; a last line closes it."""
    node = changes.node
    if node is not None and node != LocalNode(name=node.name):  # else nothing is known of it
        yield f"{'+' if changes.full else '~'} node {_node_text(node)}"
    for key in sorted(changes.changes):
        yield from _service_lines(key, changes.changes[key])
    kind = "full state" if changes.full else "changes"
    yield f"# {kind}: {len(changes.changes)} service{'' if len(changes.changes) == 1 else 's'}"


def _service_lines(key: ServiceKey, change: ServiceChange) -> Iterator[str]:
    if change.new is None:
        yield f"- service {key}"
        return
    if change.service_changed:
        service = change.new.service
        ports = ", ".join(f"{p.port}/{p.protocol.name}" for p in service.ports)
        addresses = ", ".join(
            service.cluster_ips.all() + service.external_ips.all() + service.load_balancer_ips.all()
        )
        yield f"{'~' if change.old else '+'} service {key} {service.type} {addresses or '-'} ports {ports or '-'}"
    before = change.old.endpoints if change.old else {}
    for name, endpoint in change.endpoints_set():
        yield f"{'~' if name in before else '+'} endpoint {key}/{name} {_endpoint_text(endpoint)}"
    for name in change.endpoints_deleted():
        yield f"- endpoint {key}/{name}"


def _endpoint_text(endpoint: Endpoint) -> str:
    ports = ", ".join(f"{p.name or '(unnamed)'}={p.port}/{p.protocol.name}" for p in endpoint.ports)
    scopes = [name for name in _SCOPES if getattr(endpoint.scopes, name)]
    words = [
        ", ".join(endpoint.addresses.all()),
        ports,
        "+".join(scopes).replace("_", "-") or "no-new-connections",
        "local" if endpoint.local else "",
        "terminating" if endpoint.terminating else "",
    ]
    return " ".join(word for word in words if word)


def _node_text(node: LocalNode) -> str:
    parts = {"": node.addresses.all(), "pods": node.pod_cidrs, "services": node.service_cidrs}
    words = [f"{name} {', '.join(values)}".strip() for name, values in parts.items() if values]
    return " ".join([node.name, *words, *([] if node.eligible else ["not-eligible"])])
