"""The node's network: devices that lead to us, addresses, and the settings under which nothing gets lost."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from kpng.lab.netns import Namespace, run

from .flows import NodeFacts
from .tun import Tun

PREFIX = "kpng-conformance-"
OUTSIDE = "eth0"
"""The device that everything leaves by, and comes in by unless a flow says otherwise."""

EGRESS = ("100.64.255.1", "fdff:6b70:6e67::1")
"""The addresses that masquerading gives: no scenario's, so that it is always seen to have happened."""

_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_msgs_per_sec": "1000000",
    "net/ipv4/icmp_msgs_burst": "1000000",
    "net/ipv6/icmp/ratelimit": "0",
}

_TRACKING = """table inet kpng_conformance {
  chain every { type filter hook prerouting priority filter; ct state new accept; }
}"""
"""Connections are tracked whether or not the backend asks for it."""


def prepare(namespace: Namespace) -> None:
    """Make a router of the namespace. Call in a thread that is in it."""
    for name, value in _SETTINGS.items():
        # What this kernel does not have, or has for all namespaces together, stays as it is.
        with contextlib.suppress(OSError):
            Path("/proc/sys", name).write_text(value)
    namespace.run("nft", "-f", "-", stdin=_TRACKING)


def open_device(namespace: Namespace, name: str) -> Tun:
    """Make a device and bring it up. Call in a thread that is in the namespace."""
    device = Tun(name)
    namespace.run("ip", "link", "set", name, "up")
    return device


def configure(namespace: Namespace, node: NodeFacts) -> None:
    """Give the namespace this node's addresses, and routes to everywhere."""
    namespace.run("ip", "-batch", "-", stdin="".join(f"{line}\n" for line in address_commands(node)))


def address_commands(node: NodeFacts) -> Iterator[str]:
    """Commands for ``ip -batch``.

    Masquerading takes the device's first address (IPv4), or the one that is not deprecated (IPv6, RFC 6724 rule
    3): ours. Local addresses have no subnets: every address that is not the node's own is beyond the device.
    """
    yield f"addr flush dev {OUTSIDE} scope global"
    yield f"addr add {EGRESS[0]}/32 dev {OUTSIDE}"
    yield f"addr add {EGRESS[1]}/128 dev {OUTSIDE} nodad"
    for address in node.local_ips:
        deprecated = " nodad preferred_lft 0" if ":" in address else ""
        yield f"addr add {address}/{128 if ':' in address else 32} dev {OUTSIDE}{deprecated}"
    yield f"route replace 0.0.0.0/0 dev {OUTSIDE}"
    yield f"route replace ::/0 dev {OUTSIDE}"


def remove_remains() -> None:
    """Remove the namespaces of runs that were killed."""
    try:
        names = os.listdir("/run/netns")
    except FileNotFoundError:
        return
    for name in names:
        process = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and process.isdigit() and not os.path.exists(f"/proc/{process}"):
            run(["ip", "netns", "delete", name])
