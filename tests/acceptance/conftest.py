"""What the tests of kpng's programs on a network share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.acceptance.two_pods import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """With the API server running, and nothing else yet."""
    with ExitStack() as stack:
        yield Rig(stack, tmp_path)
