"""An explanation as plain data: the form of ``--output json``."""

from __future__ import annotations

from typing import Any

from kpng.model import PortMapping

from .explanation import Explanation, LeftOut
from .frontends import Frontend

Document = dict[str, Any]


def document(found: Explanation) -> Document:
    """Every key is always there; what does not apply is null or empty. ``left_out`` null: not known."""
    packet, frontend, route = found.packet, found.frontend, found.route
    return {
        "node": found.node,
        "packet": {
            "from": packet.source,
            "to": packet.target,
            "port": packet.port or None,
            "protocol": packet.protocol_name,
            "in_interface": packet.interface or None,
        },
        "sender": {"origin": found.sender.origin.name.lower(), "why": found.sender.why},
        "verdict": found.verdict.value,
        "reason": found.reason,
        "frontend": _frontend(frontend) if frontend else None,
        "policy": route.policy if route else None,
        "scope": route.scope if route else None,
        "endpoints": [
            {
                "address": target.address,
                "port": target.port,
                "local": target.local,
                "terminating": target.terminating,
                "masquerade": target.masquerade,
                "masquerade_why": target.why,
            }
            for target in found.targets
        ],
        "choice": found.choice or None,
        "left_out": None if found.left_out is None else [_left_out(each) for each in found.left_out],
        "notes": list(found.notes),
    }


def _frontend(frontend: Frontend) -> Document:
    return {
        "kind": frontend.kind.name.lower(),
        "service": str(frontend.service.key),
        "port": _port(frontend.mapping),
        "session_affinity_seconds": frontend.service.session_affinity_seconds,
    }


def _port(mapping: PortMapping) -> Document:
    return {
        "name": mapping.name,
        "port": mapping.port,
        "protocol": mapping.protocol.name,
        "node_port": mapping.node_port or None,
    }


def _left_out(each: LeftOut) -> Document:
    return {"address": each.address, "port": each.port or None, "why": each.why}
