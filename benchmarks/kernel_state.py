"""What the kernel holds of kpng in a namespace, in a form in which two of them can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from kpng.lab.netns import CommandError, Namespace

TABLES = (("ip", "kpng"), ("ip6", "kpng"))
_DYNAMIC = {"affinity_clients", "node_addresses"}
"""Sets that packets or the node's own addresses fill."""

State = dict[str, list[str]]
"""Elements of sets and maps, in no order that would matter, and rules of chains, in theirs."""

Entry = tuple[str, dict[str, Any]]
"""As nft(8) lists them with -j: "set", "map", "chain" or "rule", and what there is to say of it."""


def kernel_state(namespace: Namespace) -> State:
    """All rules and elements, without handles, sizes and owners, and without what is only held in reserve."""
    state: State = {}
    for family, table in TABLES:
        entries = _listing(namespace, family, table)
        state |= {f"{family} {name}": lines for name, lines in table_state(entries).items()}
    return state


def table_state(entries: Iterable[Entry]) -> State:
    """The same of one table's listing."""
    entries = list(entries)
    spare = set(_spare_chains(entries))
    state: State = {}
    for kind, thing in entries:
        if kind in ("set", "map") and thing["name"] not in _DYNAMIC:
            elements = (each for each in thing.get("elem", ()) if _target(each) not in spare)
            state[thing["name"]] = sorted(map(_text, elements))
        elif kind == "chain" and thing["name"] not in spare:
            hook = [thing.get(name) for name in ("type", "hook", "prio", "policy")]
            state.setdefault(f"chain {thing['name']}", []).insert(0, _text(hook))
        elif kind == "rule" and thing["chain"] not in spare:
            state.setdefault(f"chain {thing['chain']}", []).append(_text(thing["expr"]))
    return state


def differences(one: State, other: State) -> list[str]:
    """In words, what one has and the other has not."""
    found = []
    for name in sorted(one.keys() | other.keys()):
        ours, theirs = one.get(name), other.get(name)
        if ours is None or theirs is None:
            found.append(f"{name}: only in the {'second' if ours is None else 'first'}")
        elif ours != theirs:
            more, less = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
            found.append(f"{name}: first has {more[:3]} (of {len(more)}), second {less[:3]} (of {len(less)})")
    return found


def _spare_chains(entries: list[Entry]) -> Iterator[str]:
    """Chains of endpoint counts that no service has now: the agent keeps some of those that one had."""
    elements = {thing["name"]: thing.get("elem", ()) for kind, thing in entries if kind == "map"}
    for name, classes in elements.items():
        if name.endswith("classes"):
            used = {_text(data) for _, data in elements[name.removesuffix("classes") + "services"]}
            yield from (_target(each) for each in classes if _text(each[0]) not in used)


def _target(element: Any) -> str:
    """The chain that an element of a verdict map jumps to; "" for other elements."""
    match element:
        case [_, {"jump": {"target": str(target)}}]:
            return target
    return ""


def _listing(namespace: Namespace, family: str, table: str) -> Iterator[Entry]:
    try:
        listed = namespace.run("nft", "-j", "list", "table", family, table)
    except CommandError as error:
        if "No such file" in str(error):
            return
        raise
    for entry in json.loads(listed)["nftables"]:
        yield from entry.items()


def _text(thing: Any) -> str:
    return json.dumps(thing, sort_keys=True)
