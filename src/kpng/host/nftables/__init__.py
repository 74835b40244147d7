"""nf_tables over netlink: encoders (no I/O) and a thin connection.

`expressions` and `messages` encode, `elements` does so fast and decodes dumps, `typeof` makes what ``nft list``
needs, `connection` sends. Written after the kernel's headers; linux/netfilter/nf_tables.h names every number.
"""

from . import elements, expressions, messages, typeof
from .connection import Nftables, TransactionError
from .messages import Family, Hook, Kind, SetFlag, TableFlag

__all__ = [
    "Family",
    "Hook",
    "Kind",
    "Nftables",
    "SetFlag",
    "TableFlag",
    "TransactionError",
    "elements",
    "expressions",
    "messages",
    "typeof",
]
