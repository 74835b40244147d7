"""The log of a server that clients do wrong to: told once, bounded, and nothing lost at level debug."""

from __future__ import annotations

import pytest

from kpng.server import _complaints
from kpng.server._complaints import Complaints


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("DEBUG", logger=_complaints.logger.name)
    return caplog


def texts(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == level]


def test_a_client_that_tries_again_from_another_port_is_told_once(warnings: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    for port in range(5):
        complaints.add(f"10.0.0.1:{40000 + port}", "bad certificate")
    assert texts(warnings, "WARNING") == ["10.0.0.1:40000: bad certificate"]
    assert len(texts(warnings, "DEBUG")) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("10.0.0.1:1", "bad certificate"), ("10.0.0.2:1", "bad certificate")),
        (("10.0.0.1:1", "bad certificate"), ("10.0.0.1:1", "not TLS")),
        (("[fd00::1]:1", "not TLS"), ("[fd00::2]:1", "not TLS")),
    ],
    ids=["another host", "another reason", "another IPv6 host"],
)
def test_what_is_new_is_told(
    first: tuple[str, str], second: tuple[str, str], warnings: pytest.LogCaptureFixture
) -> None:
    complaints = Complaints()
    complaints.add(*first)
    complaints.add(*second)
    assert len(texts(warnings, "WARNING")) == 2


def test_after_a_while_it_is_told_again(
    warnings: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints = Complaints()
    complaints.add("unix:///run/kpng.sock", "not gRPC")
    monkeypatch.setattr(_complaints.time, "monotonic", lambda: 1e12)
    complaints.add("unix:///run/kpng.sock", "not gRPC")
    assert len(texts(warnings, "WARNING")) == 2


def test_a_botnet_does_not_fill_the_disk(
    warnings: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_complaints, "MOST", 10)
    complaints = Complaints()
    for host in range(100):
        complaints.add(f"10.0.0.{host}:1", "not TLS")
    assert len(texts(warnings, "WARNING")) == 10
