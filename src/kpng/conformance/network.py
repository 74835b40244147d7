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
DEVICES = (OUTSIDE, "cni0", "veth12ab")
"""Where packets come in: from the network, from a bridge of pods, from one pod. All leave by the first."""

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


def settle() -> None:
    """Set what a router needs; what this kernel does not have, or has for all namespaces, stays as it is."""
    for name, value in _SETTINGS.items():
        with contextlib.suppress(OSError):
            Path("/proc/sys", name).write_text(value)


def open_devices(namespace: Namespace) -> dict[str, Tun]:
    """Make the devices and bring them up. Call in a thread that is in the namespace."""
    settle()
    devices = {name: Tun(name) for name in DEVICES}
    namespace.run("ip", "-batch", "-", stdin="".join(f"link set {name} up\n" for name in DEVICES))
    namespace.run("nft", "-f", "-", stdin=_TRACKING)
    return devices


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
