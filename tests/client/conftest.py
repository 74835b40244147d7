"""Where the client's tests listen, and how long they wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpng.client import link, moves


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix://{tmp_path}/kpng.sock"


@pytest.fixture
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost servers are asked again at once, and those that want us to go are left at once."""
    monkeypatch.setattr(link, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(link, "LAST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(moves, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(moves, "LAST_PAUSE_SECONDS", 0.02)
