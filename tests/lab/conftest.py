"""What the lab's tests share."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator

import pytest

from kpng.lab.cleanup import sweep
from kpng.lab.state import directory

_numbers = itertools.count()


@pytest.fixture
def lab_name() -> Iterator[str]:
    """The name of a lab of this test's own; whatever is left of it is removed afterwards."""
    name = f"t{os.getpid()}x{next(_numbers)}"
    yield name
    if directory(name).exists():
        shutil.rmtree(directory(name))
    directory(name).mkdir()
    sweep(name)
    shutil.rmtree(directory(name))
