"""The small parts of the plan: fields, fingerprints, messages of a change, same sets."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.backends.nft import fields, fingerprint
from kpng.backends.nft.books import Books, Draft
from kpng.backends.nft.encode import change_messages, same_set, skeleton_hash, table_messages, teardown_messages
from kpng.backends.nft.fields import DPORT, L4PROTO, MARK, Field, Key
from kpng.backends.nft.layout import Layout
from kpng.backends.nft.options import Options
from kpng.host.netlink import HEADER
from kpng.host.nftables import Family as NftFamily
from kpng.host.nftables import Kind, TableFlag
from kpng.model import FAMILIES, Family, LocalService, ServiceKey

V4, V6 = FAMILIES
Make = Callable[..., LocalService]
LAYOUTS = {family: Layout(family, Options()) for family in FAMILIES}

SHOWN: list[tuple[Key, bytes, str]] = [
    ((fields.destination(V4),), bytes((10, 96, 0, 7)), "10.96.0.7"),
    ((fields.destination(V6),), bytes((0xFD, *bytes(14), 7)), "fd00::7"),
    ((L4PROTO,), b"\6\0\0\0", "tcp"),
    ((L4PROTO,), b"\x11\0\0\0", "udp"),
    ((L4PROTO,), b"\x84\0\0\0", "sctp"),
    ((L4PROTO,), b"\x2f\0\0\0", "47"),
    ((DPORT,), b"\x1f\x90\0\0", "8080"),
    ((MARK,), struct.pack("=I", 0x1234), "0x00001234"),
    ((fields.random_index(),), struct.pack("=I", 300), "300"),
    ((L4PROTO, DPORT), b"\6\0\0\0\x00\x50\0\0", "tcp . 80"),
    ((fields.source(V4), DPORT, MARK), b"\1\2\3\4\0\x50\0\0" + struct.pack("=I", 1), "1.2.3.4 . 80 . 0x00000001"),
]


@pytest.mark.parametrize(("key", "value", "text"), SHOWN)
def test_values_as_nft_writes_them(key: Key, value: bytes, text: str) -> None:
    assert fields.show(key, value) == text
    assert len(value) == 4 * fields.registers(key)


DATATYPES: list[tuple[Key, int]] = [
    ((MARK,), 19),
    ((L4PROTO, DPORT), 12 << 6 | 13),
    ((fields.destination(V4), L4PROTO, DPORT), 0x7 << 12 | 12 << 6 | 13),
    ((fields.destination(V6), L4PROTO, DPORT), 0x8 << 12 | 12 << 6 | 13),
]


@pytest.mark.parametrize(("key", "number"), DATATYPES)
def test_datatypes(key: Key, number: int) -> None:
    assert fields.datatype(key) == number


@given(st.ip_addresses())
def test_addresses_are_packed_as_they_are_shown(address: object) -> None:
    family = V6 if ":" in str(address) else V4
    assert fields.show((fields.destination(family),), fields.pack_address(str(address))) == str(address)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make", [fields.source, fields.destination, fields.original_destination])
def test_addresses_have_their_familys_type_and_length(family: Family, make: Callable[[Family], Field]) -> None:
    found = make(family)
    assert (found.datatype, found.length) == ((7, 4) if family is V4 else (8, 16))
    assert ("ip6" if family is V6 else "ip ") in found.text


_elements = st.dictionaries(
    st.sampled_from(["endpoints", "services", "rejected"]),
    st.dictionaries(st.binary(min_size=4, max_size=4), st.binary(max_size=4), max_size=6),
)


class TestFingerprint:
    @given(_elements, _elements)
    def test_deleting_what_was_added_leads_back(
        self, before: dict[str, dict[bytes, bytes]], more: dict[str, dict[bytes, bytes]]
    ) -> None:
        start = fingerprint.elements_hash(before)
        there = fingerprint.changed(start, {}, more)
        assert fingerprint.changed(there, more, {}) == start
        assert 0 <= there < 1 << 128

    @given(_elements)
    def test_the_order_does_not_matter(self, found: dict[str, dict[bytes, bytes]]) -> None:
        backwards = {name: dict(reversed(held.items())) for name, held in reversed(found.items())}
        assert fingerprint.elements_hash(backwards) == fingerprint.elements_hash(found)

    @given(_elements, st.binary(min_size=4, max_size=4), st.binary(max_size=4))
    def test_one_element_changes_it(self, found: dict[str, dict[bytes, bytes]], key: bytes, value: bytes) -> None:
        before = fingerprint.elements_hash(found)
        changed = {**found, "services": {**found.get("services", {}), key: value}}
        same = found.get("services", {}).get(key) == value
        assert (fingerprint.elements_hash(changed) == before) is same

    def test_the_set_and_the_bounds_of_key_and_data_count(self) -> None:
        prints = [
            fingerprint.set_hash("a", {b"1234": b"5678"}),
            fingerprint.set_hash("b", {b"1234": b"5678"}),
            fingerprint.set_hash("a", {b"1234": b"5679"}),
            fingerprint.set_hash("a", {b"1234": b""}),
        ]
        assert len(set(prints)) == len(prints)

    def test_text(self) -> None:
        assert fingerprint.text("abcd", 255) == "abcd-" + "0" * 30 + "ff"


def kinds(messages: list[bytes]) -> list[str]:
    return [Kind(HEADER.unpack_from(message)[1] & 0xFF).name for message in messages]


def drafted(make: Make, *states: list[LocalService]) -> list[Draft]:
    """The drafts of one state after the other."""
    books, drafts = Books(LAYOUTS), []
    for state in states:
        wanted = {local.service.key: local for local in state}
        draft = books.draft({**dict.fromkeys(books.services), **wanted}, fresh=not drafts)
        books.take(draft)
        drafts.append(draft)
    return drafts


class TestMessages:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_table(self, family: Family) -> None:
        layout = LAYOUTS[family]
        found = kinds(list(table_messages(layout, TableFlag.OWNER)))
        rules = sum(len(chain.rules) for chain in layout.table.chains)
        sets, chains = len(layout.sets), len(layout.table.chains)
        assert found == ["NEW_TABLE"] + ["NEW_SET"] * sets + ["NEW_CHAIN"] * chains + ["NEW_RULE"] * rules

    def test_sets_that_are_kept_are_not_made(self) -> None:
        kept = list(table_messages(LAYOUTS[V4], TableFlag.NONE, {"affinity_clients"}))
        assert kinds(kept).count("NEW_SET") == len(LAYOUTS[V4].sets) - 1
        assert not any(
            b"affinity_clients\0" in m for m, kind in zip(kept, kinds(kept), strict=True) if kind == "NEW_SET"
        )

    def test_the_order_within_a_change(self, make: Make) -> None:
        """Fingerprint; what goes; chains before what jumps to them; what comes."""
        _, draft = drafted(make, [make(pods=(1, 2))], [make(pods=(1, 3, 4))])
        assert kinds(list(change_messages(LAYOUTS[V4], draft.tables[V4].change))) == [
            "DELETE_ELEMENTS",  # the old fingerprint
            "NEW_ELEMENTS",  # the new one
            "DELETE_ELEMENTS",  # endpoint 1 was another
            "DELETE_ELEMENTS",  # the service had two endpoints
            "NEW_CHAIN",
            "NEW_RULE",
            "NEW_ELEMENTS",  # the class
            "NEW_ELEMENTS",  # endpoints
            "NEW_ELEMENTS",  # service
        ]

    def test_no_change_is_no_message(self, make: Make) -> None:
        _, draft = drafted(make, [make()], [make()])
        assert not draft
        for family in FAMILIES:
            assert list(change_messages(LAYOUTS[family], draft.tables[family].change)) == []

    def test_teardown(self) -> None:
        found = kinds(list(teardown_messages(NftFamily.IPV4, ["a", "b"], ["s"])))
        assert found == ["DELETE_RULE", "DELETE_SET", "DELETE_CHAIN", "DELETE_CHAIN"]


def test_one_service_more_needs_only_its_own_messages(make: Make) -> None:
    many = [make(f"s{n}", vip=n) for n in range(1, 100)]
    _, draft = drafted(make, many, [*many, make("s100", vip=100)])
    for family in FAMILIES:
        assert sum(map(len, change_messages(LAYOUTS[family], draft.tables[family].change))) < 1500
    assert draft.lost[ServiceKey("demo", "s100")] == []


SKELETONS = [
    Options(),
    Options(hook_priority=1),
    Options(("10.0.0.0/8",)),
    Options(("10.0.0.0/9",)),
]


def test_every_option_that_is_in_the_rules_is_in_the_skeletons_hash() -> None:
    assert len({skeleton_hash(Layout(V4, options)) for options in SKELETONS}) == len(SKELETONS)
    assert skeleton_hash(Layout(V4, SKELETONS[0])) == skeleton_hash(LAYOUTS[V4])


def found_set(key_type: int, length: int, data_type: int = 0, flags: int = 0x8) -> dict[int, bytes]:
    numbers = {3: flags, 4: key_type, 5: length, 6: data_type}
    return {kind: struct.pack(">I", number) for kind, number in numbers.items()}


CLIENTS = 7 << 6 | 19
SAME = [
    (found_set(CLIENTS, 8, 19, 0x38), True),
    (found_set(CLIENTS, 8, 19, 0x38 | 0x80), True),  # concatenation: said by the key's type
    (found_set(7, 4, 19, 0x38), False),
    (found_set(CLIENTS, 12, 19, 0x38), False),
    (found_set(CLIENTS, 8, 7, 0x38), False),
    (found_set(CLIENTS, 8, 19, 0x30), False),
    (found_set(CLIENTS, 8, 19, 0x08), False),
    ({}, False),
]


@pytest.mark.parametrize(("found", "same"), SAME)
def test_which_map_of_clients_is_kept(found: dict[int, bytes], same: bool) -> None:
    assert same_set(found, LAYOUTS[V4].sets["affinity_clients"]) is same
