"""Expressions: what a rule is made of (enum nft_*_attributes in linux/netfilter/nf_tables.h).

Each function gives one encoded expression. Registers are the sixteen 32-bit ones, 0 to 15; values wider than
that take consecutive registers.
"""

from __future__ import annotations

from enum import IntEnum

from kpng.host.netlink import attribute, nested, string, u32, u64

LIST_ELEMENT = 1
_DATA_VALUE = 1
_DATA_VERDICT = 2
_FIRST_32_BIT_REGISTER = 8
VERDICT_REGISTER = -_FIRST_32_BIT_REGISTER
"""Stands for NFT_REG_VERDICT where a destination register is asked for."""


class Base(IntEnum):
    """Where a payload offset counts from."""

    NETWORK = 1
    TRANSPORT = 2


class Meta(IntEnum):
    MARK = 3
    INPUT_NAME = 6
    L4PROTO = 16


class Ct(IntEnum):
    """Keys of the ct expression."""

    STATE = 0
    STATUS = 2
    PROTO_DST = 12
    SRC_IP = 19
    DST_IP = 20
    SRC_IP6 = 21
    DST_IP6 = 22


class Compare(IntEnum):
    EQUAL = 0
    NOT_EQUAL = 1


class Verdict(IntEnum):
    DROP = 0
    ACCEPT = 1
    JUMP = -3
    GOTO = -4
    RETURN = -5


CT_STATE_NEW = 0x8
CT_STATUS_DNAT = 0x20
ADDRESS_TYPE_LOCAL = 2
NAT_RANDOM_FULLY = 0x10


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(LIST_ELEMENT, string(1, name), nested(2, *parts))


def _register(kind: int, register: int) -> bytes:
    return u32(kind, _FIRST_32_BIT_REGISTER + register)


def data_value(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(_DATA_VALUE, value))


def data_verdict(kind: int, verdict: Verdict, chain: str = "") -> bytes:
    target = string(2, chain) if chain else b""
    return nested(kind, nested(_DATA_VERDICT, u32(1, verdict), target))


def payload(register: int, base: Base, offset: int, length: int) -> bytes:
    return _expression("payload", _register(1, register), u32(2, base), u32(3, offset), u32(4, length))


def meta(register: int, key: Meta) -> bytes:
    return _expression("meta", _register(1, register), u32(2, key))


def set_meta(register: int, key: Meta) -> bytes:
    return _expression("meta", u32(2, key), _register(3, register))


def ct(register: int, key: Ct) -> bytes:
    return _expression("ct", _register(1, register), u32(2, key))


def ct_original(register: int, key: Ct) -> bytes:
    """A field of the connection as its first packet had it, before NAT."""
    return _expression("ct", _register(1, register), u32(2, key), attribute(3, b"\0"))


def fib_daddr_type(register: int) -> bytes:
    """The type of the destination address (local, unicast, ...), in the host's byte order."""
    return _expression("fib", _register(1, register), u32(2, 3), u32(3, 2))


def fib_saddr_type(register: int) -> bytes:
    """The same of the source address."""
    return _expression("fib", _register(1, register), u32(2, 3), u32(3, 1))


def compare(register: int, operation: Compare, value: bytes) -> bytes:
    return _expression("cmp", _register(1, register), u32(2, operation), data_value(3, value))


def mask(register: int, bits: bytes) -> bytes:
    """And a register with ``bits``, in place."""
    return _expression(
        "bitwise",
        _register(1, register),
        _register(2, register),
        u32(3, len(bits)),
        u32(6, 0),
        data_value(4, bits),
        data_value(5, bytes(len(bits))),
    )


def random_number(register: int, modulus: int) -> bytes:
    """numgen random mod ``modulus``, in the host's byte order."""
    return _expression("numgen", _register(1, register), u32(2, modulus), u32(3, 1), u32(4, 0))


def immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", _register(1, register), data_value(2, value))


def verdict(code: Verdict, chain: str = "") -> bytes:
    return _expression("immediate", u32(1, 0), data_verdict(2, code, chain))


def in_set(name: str, key: int, *, inverted: bool = False) -> bytes:
    flags = 1 if inverted else 0
    return _expression("lookup", string(1, name), _register(2, key), u32(5, flags))


def lookup(name: str, key: int, destination: int) -> bytes:
    """Look up a map; a key it does not have ends the rule. `VERDICT_REGISTER` follows a verdict map."""
    return _expression("lookup", string(1, name), _register(2, key), _register(3, destination), u32(5, 0))


def update_element(name: str, key: int, *, data: int | None = None, timeout_milliseconds: int = 0) -> bytes:
    """Add an element from the packet path, or refresh its timeout. A full set ends the rule."""
    return _dynset(1, name, key, data, timeout_milliseconds)


def delete_element(name: str, key: int, *, data: int | None = None) -> bytes:
    """Delete an element from the packet path. For a map the kernel wants a data register, and ignores it."""
    return _dynset(2, name, key, data, 0)


def _dynset(operation: int, name: str, key: int, data: int | None, timeout: int) -> bytes:
    parts = [string(1, name), u32(3, operation), _register(4, key)]
    if data is not None:
        parts.append(_register(5, data))
    if timeout:
        parts.append(u64(6, timeout))
    return _expression("dynset", *parts)


def dnat(family: int, address: int, port: int) -> bytes:
    return _expression("nat", u32(1, 1), u32(2, family), _register(3, address), _register(5, port))


def masquerade_fully_random() -> bytes:
    return _expression("masq", u32(1, NAT_RANDOM_FULLY))


def reject_port_unreachable(icmp_code: int) -> bytes:
    """Answer with ICMP; port unreachable is code 3 of type 3 (RFC 792), code 4 of type 1 in ICMPv6 (RFC 4443)."""
    return _expression("reject", u32(1, 0), attribute(2, bytes([icmp_code])))
