"""The library's face: what `kpng/__init__.py` names is there, and no more than 40 names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kpng


@pytest.mark.parametrize("name", kpng.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    found = getattr(kpng, name)
    assert isinstance(found, str) or found.__doc__


def test_the_face_is_small() -> None:
    assert len(kpng.__all__) <= 40
    assert sorted(kpng.__all__) == sorted(dir(kpng))


def test_other_names_are_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kpng.nothing


def test_a_backend_author_does_not_pay_for_the_brain() -> None:
    code = "import kpng, sys; kpng.Backend; print(*[m for m in ('aiohttp', 'google.protobuf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
