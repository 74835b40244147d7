"""``--nodeport-addresses``: where node ports are offered, for every backend that has them."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence

import click

from kpng.model import PRIMARY, Family, InvalidObjectError, UserError, family_of, parse_cidr

log = logging.getLogger(__name__)

_OPTION = "--nodeport-addresses"
_LOOPBACK = {Family.IPV4: ipaddress.ip_network("127.0.0.0/8"), Family.IPV6: ipaddress.ip_network("::1/128")}


def node_port_addresses_option(text: str) -> click.Option:
    """The option, with a help text; its value is for `node_port_addresses`."""
    return click.Option([_OPTION, "nodeport_addresses"], multiple=True, metavar="CIDR[,CIDR]|primary", help=text)


def node_port_addresses(given: Sequence[str]) -> tuple[str, ...]:
    """CIDRs, or `PRIMARY`; empty: all local addresses. Raises `UserError`."""
    words = [word.strip() for word in split(given)]
    if "primary" in words:
        if len(words) > 1:
            raise UserError(f"{_OPTION}: primary cannot be combined with CIDRs")
        return PRIMARY
    cidrs = tuple(cidr_of(_OPTION, word) for word in words)
    for cidr in filter(is_loopback, cidrs):
        log.warning("%s: %s is loopback, where node ports are not offered", _OPTION, cidr)
    return cidrs


def is_loopback(cidr: str) -> bool:
    network, loopback = ipaddress.ip_network(cidr), _LOOPBACK[family_of(cidr)]
    return network.prefixlen >= loopback.prefixlen and network.overlaps(loopback)


def split(given: Sequence[str]) -> list[str]:
    """The values of an option that may be given more than once, each with commas."""
    return [word for text in given for word in text.split(",")]


def cidr_of(option: str, text: str) -> str:
    """A CIDR in canonical form. Raises `UserError`, which names the option."""
    try:
        return parse_cidr(text)
    except InvalidObjectError as error:
        raise UserError(f"{option}: {error.message}") from error
