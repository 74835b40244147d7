"""An explanation as people read it: what happens, to whom, and why, in two columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kpng.model import PortMapping

from .explanation import Explanation, Target, Verdict
from .frontends import FrontendKind

Row = tuple[str, str]
"""What it is about, and a line; what goes on from the row before has no title."""

_WIDTH = 10


def text(found: Explanation) -> str:
    """Several lines, without one at the end."""
    rows = (*_verdict(found), *_service(found), *_left_out(found), *(("note", note) for note in found.notes))
    lines = [f"  {title:<{_WIDTH}} {content}".rstrip() for title, content in rows]
    return "\n".join([f"{found.packet} at node {found.node}", *lines])


def _verdict(found: Explanation) -> Iterator[Row]:
    if found.verdict is Verdict.FORWARD:
        yield from _forwarded(found.targets)
        return
    yield "verdict", _WORDS[found.verdict]
    yield "because", found.reason


_WORDS = {
    Verdict.REJECT: "rejected: answered with ICMP port unreachable",
    Verdict.DROP: "dropped without an answer",
    Verdict.NONE: "left alone: routing and others' rules decide",
}


def _forwarded(targets: Sequence[Target]) -> Iterator[Row]:
    if len(targets) == 1:
        yield "verdict", "forwarded"
    else:
        yield "verdict", f"forwarded to one of {len(targets)} endpoints, each equally likely"
    width = max(len(str(target)) for target in targets)
    for number, target in enumerate(targets):
        yield "" if number else "to", f"{target!s:<{width}}  {_properties(target)}"
    reasons = list(dict.fromkeys((target.masquerade, target.why) for target in targets))
    for masquerade, why in reasons:
        yield "masquerade" if (masquerade, why) == reasons[0] else "", f"{'yes' if masquerade else 'no'}: {why}"


def _properties(target: Target) -> str:
    words = ["masqueraded" if target.masquerade else "client's address kept"]
    words += ["on this node"] if target.local else []
    words += ["terminating"] if target.terminating else []
    return ", ".join(words)


def _service(found: Explanation) -> Iterator[Row]:
    frontend, route = found.frontend, found.route
    if frontend:
        yield "service", f"{frontend.service.key}, port {_port(frontend.mapping)}"
        yield "reached by", _reached_by(frontend.kind, found.packet.target, frontend.mapping)
    yield "sender", f"{found.sender.origin.value}: {found.sender.why}"
    if route:
        scope = ", short-circuited" if route.scope == "short_circuit" else ""
        yield "policy", f"{route.policy}{scope}"
    if found.choice:
        yield "chosen", found.choice


def _port(mapping: PortMapping) -> str:
    number = f"{mapping.port}/{mapping.protocol.name}"
    return f"{mapping.name} ({number})" if mapping.name else number


def _reached_by(kind: FrontendKind, address: str, mapping: PortMapping) -> str:
    return f"{kind} {mapping.node_port} at {address}" if kind is FrontendKind.NODE_PORT else f"{kind} {address}"


def _left_out(found: Explanation) -> Iterator[Row]:
    if found.left_out is None:
        if found.route:
            yield "left out", "not known: only this node's state was there to ask"
        return
    if not found.left_out:
        return
    width = max(len(str(each)) for each in found.left_out)
    for number, each in enumerate(found.left_out):
        yield "" if number else "left out", f"{each!s:<{width}}  {each.why}"
