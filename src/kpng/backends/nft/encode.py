"""The plan as netlink messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from types import MappingProxyType

from kpng.host.nftables import Family as NftFamily
from kpng.host.nftables import TableFlag, elements, messages, typeof
from kpng.host.nftables.expressions import Verdict

from .fields import datatype, registers
from .intervals import halves
from .layout import STATE, Layout
from .ruleset import TABLE, Chain, Set, Table, TableChange
from .statements import nft_family

STATE_KEY = bytes(4)
_NO_SIZES: Mapping[str, int] = MappingProxyType({})


def table_messages(
    layout: Layout, flags: TableFlag, kept: Iterable[str] = (), sizes: Mapping[str, int] = _NO_SIZES
) -> Iterator[bytes]:
    """Create a table with its fixed part. ``kept`` names sets that are there already."""
    table = layout.table
    family = nft_family(table.family)
    yield messages.new_table(family, TABLE, flags)
    yield from _sets(table, set(kept), sizes)
    for chain in table.chains:
        yield _chain(family, chain)
    for chain in table.chains:
        yield from _rules(family, chain)


def change_messages(layout: Layout, change: TableChange) -> Iterator[bytes]:
    """Change a table's contents. Deletions come first; chains go only when nothing jumps to them any more."""
    family = nft_family(layout.family)
    yield from _state(family, change)
    for name, deleted in change.deleted.items():
        yield from messages.delete_elements(family, TABLE, name, _encoded_keys(layout.sets[name], deleted))
    for name, key, chain in change.new_classes:
        yield _chain(family, chain)
        yield from _rules(family, chain)
        jump = elements.verdict_element(key, Verdict.JUMP, chain.name)
        yield from messages.new_elements(family, TABLE, name, [jump])
    for name, added in change.added.items():
        yield from messages.new_elements(family, TABLE, name, _encoded(layout.sets[name], added))
    for name, key, gone in change.old_classes:
        encoded = elements.key_encoder(len(key))(key)
        yield from messages.delete_elements(family, TABLE, name, [encoded])
        yield messages.delete_rules(family, TABLE, gone)
        yield messages.delete_chain(family, TABLE, gone)


def teardown_messages(family: NftFamily, chains: Iterable[str], sets: Iterable[str]) -> Iterator[bytes]:
    """Empty a table but for the sets not named, so that those keep what they hold."""
    yield messages.delete_rules(family, TABLE)
    for name in sets:
        yield messages.delete_set(family, TABLE, name)
    for chain in chains:
        yield messages.delete_chain(family, TABLE, chain)


def skeleton_hash(layout: Layout) -> str:
    """A hash of the fixed part: another version of kpng, or other options, give another."""
    encoded = b"".join(table_messages(layout, TableFlag.NONE))
    samples = (layout.class_chain(kind, number) for kind in layout.keys for number in (2, 1 << 31 | 1 << 14 | 2))
    chains = b"".join(b"".join(_rules(nft_family(layout.family), chain)) for chain in samples)
    return blake2b(encoded + chains, digest_size=8).hexdigest()


def same_set(found: Mapping[int, bytes], wanted: Set) -> bool:
    """Whether a set in the kernel (NFTA_SET_*) takes the same keys and data as the one we want."""
    data = datatype(wanted.data) if wanted.data else 0
    return (
        _number(found.get(4)) == datatype(wanted.key)
        and _number(found.get(5)) == _key_length(wanted)
        and _number(found.get(6)) == data
        and _number(found.get(3)) & 0x3C == wanted.flags | (0x8 if wanted.data else 0)
    )


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _state(family: NftFamily, change: TableChange) -> Iterator[bytes]:
    """The fingerprint is the comment of the one element of a set: a table's own user data cannot be changed."""
    if change.old_fingerprint:
        yield from messages.delete_elements(family, TABLE, STATE, [elements.key_encoder(4)(STATE_KEY)])
    if change.new_fingerprint:
        written = elements.commented_element(STATE_KEY, change.new_fingerprint)
        yield from messages.new_elements(family, TABLE, STATE, [written])


def _chain(family: NftFamily, chain: Chain) -> bytes:
    if chain.base is None:
        return messages.new_chain(family, TABLE, chain.name)
    base = chain.base
    return messages.new_base_chain(family, TABLE, chain.name, base.kind, base.hook, base.priority)


def _rules(family: NftFamily, chain: Chain) -> Iterator[bytes]:
    for rule in chain.rules:
        encoded = [expression for statement in rule.statements for expression in statement.encode()]
        yield messages.new_rule(family, TABLE, chain.name, encoded, rule.comment)


def _sets(table: Table, kept: set[str], sizes: Mapping[str, int]) -> Iterator[bytes]:
    for identifier, found in enumerate(table.sets, 1):
        if found.name not in kept:
            size = sizes.get(found.name, found.size)
            yield _new_set(nft_family(table.family), found, identifier, size)


def _new_set(family: NftFamily, found: Set, identifier: int, size: int) -> bytes:
    data_type = messages.VERDICT_TYPE if found.verdicts else datatype(found.data) if found.data else None
    return messages.new_set(
        family,
        TABLE,
        found.name,
        identifier,
        key_type=datatype(found.key),
        key_lengths=[field.length for field in found.key],
        data_type=data_type,
        data_length=_data_length(found),
        flags=found.flags,
        size=size,
        timeout_milliseconds=found.timeout_seconds * 1000,
        userdata=_userdata(found),
    )


def _userdata(found: Set) -> bytes:
    return typeof.set_userdata(
        [field.typeof for field in found.key],
        [field.typeof for field in found.data],
        host_order_key=len(found.key) == 1 and found.key[0].host_order,
        host_order_data=len(found.data) == 1 and found.data[0].host_order,
    )


def _key_length(found: Set) -> int:
    return 4 * registers(found.key)


def _data_length(found: Set) -> int:
    return 4 * registers(found.data)


def _encoded(found: Set, added: dict[bytes, bytes]) -> Iterator[bytes]:
    if found.data:
        pair = elements.pair_encoder(_key_length(found), _data_length(found))
        return (pair(key, data) for key, data in added.items())
    return _encoded_keys(found, added)


def _encoded_keys(found: Set, keys: Iterable[bytes]) -> Iterator[bytes]:
    if not found.interval:
        return map(elements.key_encoder(_key_length(found)), keys)
    if len(found.key) > 1:
        return (elements.range_element(*halves(key)) for key in keys)
    return (element for key in keys for element in elements.interval_elements(*halves(key)))
