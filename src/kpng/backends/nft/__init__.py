"""The nftables backend: services and endpoints as elements of a few maps, programmed over netlink.

A change goes through `frontends` (where a service can be reached, who owns it), `contents` (the elements
that takes), `books` (what differs from what is programmed) and `kernel` (one transaction). `layout` holds the fixed
part: sets, chains, rules. `encode` and `text` render the same plan, for the kernel and for people.
"""

from .backend import NftBackend

__all__ = ["NftBackend"]
