"""`to-healthchecks` says where node ports are, and programs nothing; that it answers: tests/cli/test_health.py."""

from __future__ import annotations

import logging

import pytest

from kpng.backends import load_backend
from kpng.backends.healthchecks import HealthChecksBackend
from kpng.model import UserError
from kpng.testing import change_set, endpoint, local_service, service


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ([], ()),
        (["primary"], ("primary",)),
        (["10.0.0.0/8,fd00::/8"], ("10.0.0.0/8", "fd00::/8")),
        (["10.0.0.0/8", " 192.0.2.7/24"], ("10.0.0.0/8", "192.0.2.0/24")),
    ],
)
def test_where_it_answers(given: list[str], where: tuple[str, ...]) -> None:
    assert HealthChecksBackend(given).node_port_addresses == where


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["10.0.0.0/40"], "--nodeport-addresses: '10.0.0.0/40' is not a CIDR"),
        (["primary,10.0.0.0/8"], "--nodeport-addresses: primary cannot be combined with CIDRs"),
        ([""], "--nodeport-addresses: '' is not a CIDR"),
    ],
)
def test_what_is_no_address(given: list[str], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        HealthChecksBackend(given)
    assert str(caught.value) == complaint


def test_loopback_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        HealthChecksBackend(["127.0.0.0/8"])
    assert "127.0.0.0/8 is loopback, where node ports are not offered" in caplog.text


async def test_it_is_installed_and_has_nothing_to_do() -> None:
    assert load_backend("healthchecks") is HealthChecksBackend
    backend = HealthChecksBackend()
    await backend.start()
    await backend.apply(change_set(new=[local_service(service("demo/web"), endpoint("10.1.0.1"))]))
    assert backend.conntrack() is None
    assert await HealthChecksBackend.cleanup() == "nothing to clean up"
    await backend.stop()
