"""The garbage collector while a cluster is loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bulk_load() -> Iterator[None]:
    """What is made in this block stays: keep the collector from going through it again and again.

    Of 50,000 services that costs as much as half of all other work, and later a pause of a tenth of a second at any
    time. Nothing of it is in a reference cycle; what has had its time goes by reference counting, frozen or not.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
