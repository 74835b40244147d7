"""What kube-proxy leaves behind: its nftables mode two tables, its iptables mode chains (semantics R)."""

from __future__ import annotations

import logging

from kpng.host.nftables import Family, Nftables
from kpng.host.nftables.messages import delete_table

from .iptables_leftovers import remove_iptables_rules

log = logging.getLogger(__name__)

TABLE = "kube-proxy"
_FAMILIES = {Family.IPV4: "ip", Family.IPV6: "ip6"}


def remove_kube_proxy() -> list[str]:
    """Remove what there is; return what it was ("table ip kube-proxy"). Raises `OSError` without nf_tables."""
    removed = [f"table {name}" for name in remove_kube_proxy_tables()]
    return [*removed, *(f"chains KUBE-* (with {command})" for command in remove_iptables_rules())]


def remove_kube_proxy_tables() -> list[str]:
    """Delete kube-proxy's tables; return the names of those that were there ("ip kube-proxy"). Raises `OSError`."""
    connection = Nftables()
    try:
        there = [family for family in _FAMILIES if connection.table_flags(family, TABLE) is not None]
        connection.commit([delete_table(family, TABLE) for family in there])
    finally:
        connection.close()
    return [f"{_FAMILIES[family]} {TABLE}" for family in there]


def take_over_from_kube_proxy() -> None:
    """To be called once our own rules are in place, so that no packet finds neither (X14)."""
    try:
        for what in remove_kube_proxy():
            log.info("our rules are in place: removed kube-proxy's %s", what)
    except OSError as error:
        log.warning("cannot remove what kube-proxy has left: %s", error)
