"""The global store: transactions, revisions, what changed since, readers at their own pace."""

from .snapshot import EMPTY, Kind, ServiceRecord, Snapshot
from .store import Store
from .table import Bucket
from .transaction import Transaction

__all__ = ["EMPTY", "Bucket", "Kind", "ServiceRecord", "Snapshot", "Store", "Transaction"]
