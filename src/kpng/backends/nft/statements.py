"""Statements: what a rule does, each as nft text and as netlink expressions.

Statements with a second lookup bounce the first one's result through the packet mark and put the mark back at
once, before anything can fail: the kernel does not need that, but ``nft list ruleset`` (1.0.6) aborts where a
lookup's result is itself a key, for everybody who lists the ruleset. The text shows the bounce as
``meta mark set``; putting the mark back cannot be written in nft, so the text leaves it out.
"""

from __future__ import annotations

import ipaddress
import sys
from typing import Protocol

from msgspec import Struct

from kpng.host.nftables import Family as NftFamily
from kpng.host.nftables import expressions as ex
from kpng.host.nftables.expressions import Compare, Meta, Verdict
from kpng.model import Family

from .fields import Key, destination, key_text, load, registers, source

_SAVED = 15
"""The register that keeps the packet's own mark."""
_CLIENT = 8
"""Where the key of the affinity map begins: client, service. Up to five registers."""
_CHOSEN = 13
"""The register that keeps the number of the endpoint."""
_INTERFACE_NAME_LENGTH = 16


class Statement(Protocol):
    def text(self) -> str: ...
    def encode(self) -> list[bytes]: ...


def nft_family(family: Family) -> NftFamily:
    return NftFamily.IPV4 if family is Family.IPV4 else NftFamily.IPV6


def family_word(family: Family) -> str:
    return "ip" if family is Family.IPV4 else "ip6"


def save_mark() -> bytes:
    return ex.meta(_SAVED, Meta.MARK)


def bounce(register: int, *targets: int) -> list[bytes]:
    """Copy a register through the mark; the mark is itself again afterwards."""
    reads = [ex.meta(target, Meta.MARK) for target in targets]
    return [ex.set_meta(register, Meta.MARK), *reads, ex.set_meta(_SAVED, Meta.MARK)]


class StateNew(Struct, frozen=True):
    def text(self) -> str:
        return "ct state new"

    def encode(self) -> list[bytes]:
        return _any_bit(ex.ct(0, ex.Ct.STATE), ex.CT_STATE_NEW)


class StatusDnat(Struct, frozen=True):
    def text(self) -> str:
        return "ct status dnat"

    def encode(self) -> list[bytes]:
        return _any_bit(ex.ct(0, ex.Ct.STATUS), ex.CT_STATUS_DNAT)


def _any_bit(read: bytes, bit: int) -> list[bytes]:
    return [read, ex.mask(0, bit.to_bytes(4, sys.byteorder)), ex.compare(0, Compare.NOT_EQUAL, bytes(4))]


class ProtocolIs(Struct, frozen=True):
    name: str
    number: int

    def text(self) -> str:
        return f"meta l4proto {self.name}"

    def encode(self) -> list[bytes]:
        return [ex.meta(0, Meta.L4PROTO), ex.compare(0, Compare.EQUAL, bytes([self.number]))]


class DestinationIsLocal(Struct, frozen=True):
    """An address of this machine: any that its routing tables call local."""

    def text(self) -> str:
        return "fib daddr type local"

    def encode(self) -> list[bytes]:
        kind = ex.ADDRESS_TYPE_LOCAL.to_bytes(4, sys.byteorder)
        return [ex.fib_daddr_type(0), ex.compare(0, Compare.EQUAL, kind)]


class SourceIsLocal(Struct, frozen=True):
    """Sent by a process of this machine."""

    def text(self) -> str:
        return "fib saddr type local"

    def encode(self) -> list[bytes]:
        kind = ex.ADDRESS_TYPE_LOCAL.to_bytes(4, sys.byteorder)
        return [ex.fib_saddr_type(0), ex.compare(0, Compare.EQUAL, kind)]


class InputInterface(Struct, frozen=True):
    """The interface that the packet came in by; a name that ends in * is a prefix.

    Postrouting sees it of packets that are routed (Linux 5.7), and none of what the machine itself sends.
    """

    name: str

    def text(self) -> str:
        return f'iifname "{self.name}"'

    def encode(self) -> list[bytes]:
        name = self.name.encode()
        value = name[:-1] if name.endswith(b"*") else name.ljust(_INTERFACE_NAME_LENGTH, b"\0")
        return [ex.meta(0, Meta.INPUT_NAME), ex.compare(0, Compare.EQUAL, value)]


class NotLoopback(Struct, frozen=True):
    family: Family

    def text(self) -> str:
        return "ip daddr != 127.0.0.0/8" if self.family is Family.IPV4 else "ip6 daddr != ::1"

    def encode(self) -> list[bytes]:
        if self.family is Family.IPV4:
            first_octet = ex.payload(0, ex.Base.NETWORK, 16, 1)
            return [first_octet, ex.compare(0, Compare.NOT_EQUAL, b"\x7f")]
        return [*load((destination(self.family),), 0), ex.compare(0, Compare.NOT_EQUAL, bytes(15) + b"\1")]


class SourceIn(Struct, frozen=True):
    """Whether the packet comes from a CIDR; ``inverted``: from elsewhere."""

    cidr: str
    inverted: bool = False

    def text(self) -> str:
        return f"{'ip6' if ':' in self.cidr else 'ip'} saddr {'!= ' if self.inverted else ''}{self.cidr}"

    def encode(self) -> list[bytes]:
        network = ipaddress.ip_network(self.cidr)
        family = Family(network.version)
        return [
            *load((source(family),), 0),
            ex.mask(0, network.netmask.packed),
            ex.compare(0, Compare.NOT_EQUAL if self.inverted else Compare.EQUAL, network.network_address.packed),
        ]


class InSet(Struct, frozen=True):
    key: Key
    name: str
    inverted: bool = False

    def text(self) -> str:
        return f"{key_text(self.key)} {'!= ' if self.inverted else ''}@{self.name}"

    def encode(self) -> list[bytes]:
        return [*load(self.key, 0), ex.in_set(self.name, 0, inverted=self.inverted)]


class Jump(Struct, frozen=True):
    chain: str

    def text(self) -> str:
        return f"jump {self.chain}"

    def encode(self) -> list[bytes]:
        return [ex.verdict(Verdict.JUMP, self.chain)]


class Return(Struct, frozen=True):
    def text(self) -> str:
        return "return"

    def encode(self) -> list[bytes]:
        return [ex.verdict(Verdict.RETURN)]


class Drop(Struct, frozen=True):
    def text(self) -> str:
        return "drop"

    def encode(self) -> list[bytes]:
        return [ex.verdict(Verdict.DROP)]


class Reject(Struct, frozen=True):
    family: Family

    def text(self) -> str:
        kind = "icmp" if self.family is Family.IPV4 else "icmpv6"
        return f"reject with {kind} port-unreachable"

    def encode(self) -> list[bytes]:
        return [ex.reject_port_unreachable(3 if self.family is Family.IPV4 else 4)]


class Masquerade(Struct, frozen=True):
    def text(self) -> str:
        return "masquerade fully-random"

    def encode(self) -> list[bytes]:
        return [ex.masquerade_fully_random()]


class Remember(Struct, frozen=True):
    """Add a key to a dynamic set, for the set's own timeout."""

    key: Key
    name: str

    def text(self) -> str:
        return f"update @{self.name} {{ {key_text(self.key)} }}"

    def encode(self) -> list[bytes]:
        return [*load(self.key, 0), ex.update_element(self.name, 0)]


class Dispatch(Struct, frozen=True):
    """Look up a service's class, and jump where that class's chain is.

    Jump, never goto: where the class's chain finds no endpoint, the packet goes on to the next base chain.
    """

    key: Key
    services: str
    classes: str

    def text(self) -> str:
        return f"meta mark set {key_text(self.key)} map @{self.services} meta mark vmap @{self.classes}"

    def encode(self) -> list[bytes]:
        return [
            save_mark(),
            *load(self.key, 0),
            ex.lookup(self.services, 0, 0),
            *bounce(0, 0),
            ex.lookup(self.classes, 0, ex.VERDICT_REGISTER),
        ]


class Forward(Struct, frozen=True):
    """DNAT to the endpoint that a map has for the key (the last field of which is a random index)."""

    family: Family
    key: Key
    endpoints: str

    def text(self) -> str:
        return f"dnat {family_word(self.family)} to {key_text(self.key)} map @{self.endpoints}"

    def encode(self) -> list[bytes]:
        return [*load(self.key, 0), ex.lookup(self.endpoints, 0, 0), _dnat(self.family)]


def _dnat(family: Family) -> bytes:
    """Endpoint in register 0 and following: address, port."""
    return ex.dnat(nft_family(family), 0, registers((destination(family),)))


class AffinityMaps(Struct, frozen=True):
    """The maps that session affinity needs, for one kind of frontend.

    ``services``: frontend to a number of its service port; ``clients``: client and that number to the number of
    an endpoint, written by the packet path; ``numbers``: frontend and index to the number of an endpoint;
    ``endpoints``: frontend and that number to the endpoint.
    """

    family: Family
    key: Key
    services: str
    clients: str
    numbers: str
    endpoints: str

    def client_text(self) -> str:
        return f"{source(self.family).text} . meta mark"

    def service_text(self) -> str:
        return f"meta mark set {key_text(self.key)} map @{self.services}"

    def forward_text(self) -> str:
        return f"dnat {family_word(self.family)} to {key_text(self.key)} . meta mark map @{self.endpoints}"

    def update_text(self, seconds: int) -> str:
        return f"update @{self.clients} {{ {self.client_text()} timeout {seconds}s : meta mark }}"

    def load_client(self) -> list[bytes]:
        """Put client and service number where the key of the clients' map is."""
        client = source(self.family)
        return [
            save_mark(),
            *load(self.key, 0),
            ex.lookup(self.services, 0, 0),
            *bounce(0, _CLIENT + registers((client,))),
            client.load(_CLIENT),
        ]

    def find_endpoint(self) -> list[bytes]:
        """From the endpoint's number to its address and port, in register 0."""
        return [
            *bounce(_CHOSEN, _CHOSEN, registers(self.key)),
            *load(self.key, 0),
            ex.lookup(self.endpoints, 0, 0),
        ]

    def update(self, seconds: int) -> bytes:
        return ex.update_element(self.clients, _CLIENT, data=_CHOSEN, timeout_milliseconds=seconds * 1000)


class ForwardAgain(Struct, frozen=True):
    """Forward to where the client was before. An endpoint that is gone misses in the second lookup."""

    maps: AffinityMaps
    seconds: int

    def text(self) -> str:
        maps = self.maps
        found = f"meta mark set {maps.client_text()} map @{maps.clients}"
        return f"{maps.service_text()} {found} {maps.update_text(self.seconds)} {maps.forward_text()}"

    def encode(self) -> list[bytes]:
        maps = self.maps
        return [
            *maps.load_client(),
            ex.lookup(maps.clients, _CLIENT, _CHOSEN),
            *maps.find_endpoint(),
            maps.update(self.seconds),
            _dnat(maps.family),
        ]


class ForgetClient(Struct, frozen=True):
    """Delete where the client was before (its endpoint is gone, as the rule above did not forward)."""

    maps: AffinityMaps

    def text(self) -> str:
        maps = self.maps
        return f"{maps.service_text()} delete @{maps.clients} {{ {maps.client_text()} : 0x00000000 }}"

    def encode(self) -> list[bytes]:
        data = ex.immediate(_CHOSEN, bytes(4))
        return [
            *self.maps.load_client(),
            data,
            ex.delete_element(self.maps.clients, _CLIENT, data=_CHOSEN),
        ]


class ForwardAnew(Struct, frozen=True):
    """Choose an endpoint at random; with ``seconds`` remember it, else not (for when the map is full)."""

    maps: AffinityMaps
    index: Key
    seconds: int = 0

    def text(self) -> str:
        maps = self.maps
        number = f"meta mark set {key_text(maps.key + self.index)} map @{maps.numbers}"
        service = f"{maps.service_text()} " if self.seconds else ""
        update = f"{maps.update_text(self.seconds)} " if self.seconds else ""
        return f"{service}{number} {update}{maps.forward_text()}"

    def encode(self) -> list[bytes]:
        maps = self.maps
        return [
            *(maps.load_client() if self.seconds else [save_mark()]),
            *load(maps.key + self.index, 0),
            ex.lookup(maps.numbers, 0, _CHOSEN),
            *maps.find_endpoint(),
            *([maps.update(self.seconds)] if self.seconds else []),
            _dnat(maps.family),
        ]
