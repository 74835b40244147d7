"""Faults of kube-proxy's nftables mode that are not repeated here; the numbers are those of docs/semantics.md.

Others are tested where the subject is: X1 in test_service_cidrs, X6 and X12 in test_nodeport_addresses, X7 in
test_conntrack, X11 in test_source_ranges, X17 in test_books, X20 in test_short_circuit.
"""

from __future__ import annotations

import logging
import struct
from typing import Any

import pytest

from kpng.host.nftables import Family, elements, messages
from kpng.lab.netns import CommandError
from kpng.model import IPSet, LocalNode

pytestmark = pytest.mark.netns

VIP = "10.96.0.7"
OUTSIDE = IPSet(("203.0.113.7",), ("2001:db8:99::7",))
EVERYTHING: dict[str, Any] = {
    "node_port": 30080,
    "load_balancer_ips": OUTSIDE,
    "external_traffic_local": True,
    "short": (1, 2),
    "local": (1,),
    "source_ranges": ("192.0.2.0/24",),
}


@pytest.mark.parametrize("damage", ["delete table ip kpng", "flush ruleset"])
def test_x2_nobody_deletes_the_tables_of_a_process_that_runs(rig: Any, make: Any, damage: str) -> None:
    """The kernel keeps others out; where it does not yet (a start that wrote nothing), see test_guard."""
    rig.start().set(make())
    if damage == "flush ruleset":
        rig.nft("flush", "ruleset")  # spares what others own
    else:
        with pytest.raises(CommandError, match="not permitted"):
            rig.nft(*damage.split())
    assert rig.client.reach(VIP, 80)


@pytest.mark.parametrize("fields", [{}, EVERYTHING, {**EVERYTHING, "session_affinity_seconds": 60}])
def test_x9_nothing_stays_of_a_service_that_is_gone(rig: Any, make: Any, fields: dict[str, Any]) -> None:
    """Chains are of numbers of endpoints, never of services, and no element is left."""
    backend = rig.start()
    backend.set(make(**fields))
    assert "203.0.113.7" in rig.nft("list", "ruleset") or not fields
    backend.set()
    left = rig.nft("list", "ruleset")
    assert not any(word in left for word in ("10.96.0.7", "203.0.113.7", "30080", "10.1.0.", "fd00:", "192.0.2."))


def test_x10_a_fresh_start_complains_of_nothing(rig: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    backend = rig.start()
    backend.set(make(**EVERYTHING), node=LocalNode(name="n", service_cidrs=("10.96.0.0/16",)))
    backend.checked()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_x15_more_clients_than_65535_keep_their_endpoint(rig: Any, make: Any) -> None:
    """A full map forwards all the same (test_traffic), and it is not full with as many as these."""
    backend = rig.start()
    backend.set(make(session_affinity_seconds=60))
    encode = elements.pair_encoder(8, 4)
    others = (encode(struct.pack(">II", 0x0B000000 + n, 7), bytes(4)) for n in range(100_000))
    parts = list(messages.new_elements(Family.IPV4, "kpng", "affinity_clients", others))
    backend.runner.call(lambda: backend.backend._connection.commit(parts))
    assert len(rig.client.count(20, VIP, 80)) == 1
