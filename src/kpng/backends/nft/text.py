"""The plan as nft text, for people: ``--dry-run``.

It loads with ``nft -f`` as far as nft 1.0.6 can (it aborts on the IPv6 form of session affinity).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .fields import key_text, show
from .intervals import show_interval
from .layout import STATE, Layout
from .ruleset import TABLE, Chain, Set, TableChange
from .statements import family_word

HEADER = """\
# What kpng programs over netlink, in nft's words. "meta mark set" is how a value goes from one lookup to the next
# within a rule; over netlink the packet's own mark is put back in the same rule, which nft cannot say.
"""


def table_text(layout: Layout, change: TableChange) -> str:
    """A whole table: the fixed part with ``change``'s additions."""
    classes: dict[str, list[str]] = {}
    for name, key, chain in change.new_classes:
        classes.setdefault(name, []).append(f"{show(layout.sets[name].key, key)} : jump {chain.name}")
    lines = [f"table {family_word(layout.family)} {TABLE} {{"]
    for found in layout.table.sets:
        shown = classes.get(found.name) or _shown(found, change.added.get(found.name, {}))
        if found.name == STATE and change.new_fingerprint:
            shown = [f'0x00000000 comment "{change.new_fingerprint}"']
        lines += _set_lines(found, change.sizes.get(found.name, found.size), shown)
    for chain in [*(chain for _, _, chain in change.new_classes), *layout.table.chains]:
        lines += _chain_lines(chain)
    return "\n".join([*lines, "}"]) + "\n"


def change_text(layout: Layout, change: TableChange) -> str:
    """A change to a table as commands."""
    return "".join(f"{command}\n" for command in _commands(layout, change))


def _commands(layout: Layout, change: TableChange) -> Iterator[str]:
    where = f"{family_word(layout.family)} {TABLE}"
    if change.old_fingerprint:
        yield f"delete element {where} {STATE} {{ 0x00000000 }}"
    if change.new_fingerprint:
        yield f'add element {where} {STATE} {{ 0x00000000 comment "{change.new_fingerprint}" }}'
    for name, deleted in change.deleted.items():
        keys = ", ".join(_shown_key(layout.sets[name], key) for key in deleted)
        yield f"delete element {where} {name} {{ {keys} }}"
    for name, key, chain in change.new_classes:
        yield f"add chain {where} {chain.name}"
        yield from (f"add rule {where} {chain.name} {line}" for line in _rule_lines(chain))
        yield f"add element {where} {name} {{ {show(layout.sets[name].key, key)} : jump {chain.name} }}"
    for name, added in change.added.items():
        yield f"add element {where} {name} {{ {', '.join(_shown(layout.sets[name], added))} }}"
    for name, key, gone in change.old_classes:
        yield f"delete element {where} {name} {{ {show(layout.sets[name].key, key)} }}"
        yield f"delete chain {where} {gone}"


def _shown(found: Set, elements: Mapping[bytes, bytes]) -> list[str]:
    if not found.data:
        return [_shown_key(found, key) for key in sorted(elements)]
    return [f"{show(found.key, key)} : {show(found.data, elements[key])}" for key in sorted(elements)]


def _shown_key(found: Set, key: bytes) -> str:
    return show_interval(found.key, key) if found.interval else show(found.key, key)


def _set_lines(found: Set, size: int, elements: list[str]) -> Iterator[str]:
    yield f"\t{'map' if found.data or found.verdicts else 'set'} {found.name} {{"
    if found.comment:
        yield f"\t\t# {found.comment}"
    if found.verdicts:
        yield "\t\ttype mark : verdict"  # nft 1.0.6 knows no typeof with verdicts
    else:
        data = f" : {key_text(found.data)}" if found.data else ""
        yield f"\t\ttypeof {key_text(found.key)}{data}"
    if size:
        yield f"\t\tsize {size}"
    if found.dynamic:
        yield "\t\tflags dynamic,timeout"
    if found.interval:
        yield "\t\tflags interval"
    if found.timeout_seconds:
        yield f"\t\ttimeout {found.timeout_seconds}s"
    if elements:
        joined = ",\n\t\t\t     ".join(elements)
        yield f"\t\telements = {{ {joined} }}"
    yield "\t}\n"


def _chain_lines(chain: Chain) -> Iterator[str]:
    yield f"\tchain {chain.name} {{"
    if chain.base is not None:
        hook = chain.base.hook.name.lower()
        yield f"\t\ttype {chain.base.kind} hook {hook} priority {chain.base.priority}; policy accept;"
    yield from (f"\t\t{line}" for line in _rule_lines(chain))
    yield "\t}\n"


def _rule_lines(chain: Chain) -> Iterator[str]:
    for rule in chain.rules:
        comment = f' comment "{rule.comment}"' if rule.comment else ""
        yield " ".join(statement.text() for statement in rule.statements) + comment
