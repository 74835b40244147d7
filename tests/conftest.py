"""What all tests share: the data path is either tested or said to be missing, never silently skipped."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator

import pytest


def _missing() -> str:
    """Why real packets cannot be sent here; "" if they can."""
    if os.geteuid() != 0:
        return "not root"
    absent = [command for command in ("ip", "nft") if shutil.which(command) is None]
    return f"no command {' or '.join(absent)}" if absent else ""


@pytest.fixture
def _hangups_are_heard() -> Iterator[None]:
    """By processes that a test starts, also where the tests themselves are run by nohup(1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    if not reason:
        return
    if os.environ.get("KPNG_REQUIRE_NETNS"):
        pytest.exit(f"the data path cannot be tested ({reason}), and KPNG_REQUIRE_NETNS is set", returncode=1)
    skip = pytest.mark.skip(reason=f"needs network namespaces and nftables: {reason}")
    for item in items:
        if "netns" in item.keywords:
            item.add_marker(skip)
