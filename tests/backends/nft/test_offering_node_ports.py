"""At which addresses of the machine node ports are offered: connection tracking and health checks go by it (H3)."""

from __future__ import annotations

import pytest

from kpng.backends.nft import NftBackend
from kpng.backends.nft.node import offering_node_ports
from kpng.backends.nft.options import parse_options
from kpng.model import IPSet, LocalNode

OWN = ["192.0.2.1", "192.0.2.2", "10.1.0.1", "2001:db8::1", "fd00::1"]
NODE = LocalNode(name="n1", addresses=IPSet.of(["192.0.2.2", "fd00::1"]))

CASES: list[tuple[str, LocalNode | None, list[str]]] = [
    ("", NODE, OWN),
    ("primary", NODE, ["192.0.2.2", "fd00::1"]),
    ("primary", LocalNode(name="n1", addresses=IPSet.of(["192.0.2.2"])), ["192.0.2.2"]),
    ("primary", None, []),
    ("192.0.2.0/24", NODE, ["192.0.2.1", "192.0.2.2", "2001:db8::1", "fd00::1"]),
    ("192.0.2.0/24,fd00::/8", NODE, ["192.0.2.1", "192.0.2.2", "fd00::1"]),
    ("198.51.100.0/24", NODE, ["2001:db8::1", "fd00::1"]),
    ("0.0.0.0/0", NODE, OWN),
]


def chosen(addresses: str) -> dict[str, object]:
    return {"nodeport_addresses": (addresses,) if addresses else ()}


@pytest.mark.parametrize(("addresses", "node", "wanted"), CASES)
def test_h3_addresses(addresses: str, node: LocalNode | None, wanted: list[str]) -> None:
    assert offering_node_ports(node, parse_options(**chosen(addresses)), OWN) == wanted


def test_the_runtime_is_told() -> None:
    assert NftBackend(**chosen("primary")).node_port_addresses == ("primary",)
    assert NftBackend().node_port_addresses == ()
    assert NftBackend(dry_run=True).node_port_addresses is None
