"""An API server to write to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kpng.lab.apiserver import ApiServer


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    running = ApiServer()
    await running.start()
    yield running
    await running.stop()
