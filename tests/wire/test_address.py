"""Addresses to listen on and to connect to."""

from __future__ import annotations

import pytest

from kpng.model import UserError
from kpng.wire.address import TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:12090", TcpAddress("127.0.0.1", 12090)),
        ("tcp://:12090", TcpAddress("", 12090)),
        (":12090", TcpAddress("", 12090)),
        ("tcp://[::1]:0", TcpAddress("::1", 0)),
        ("[::1]:1", TcpAddress("::1", 1)),
        ("kpng.example:65535", TcpAddress("kpng.example", 65535)),
        ("unix:///run/kpng.sock", UnixAddress("/run/kpng.sock")),
        ("unix://kpng.sock", UnixAddress("kpng.sock")),
    ],
)
def test_addresses(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "::1:80",
        "host:",
        "host:x",
        "host:-1",
        "host:65536",
        "host:¹",
        "unix://",
        "http://host:80",
        "tcp://",
    ],
)
def test_what_is_no_address_is_the_users_to_mend(text: str) -> None:
    with pytest.raises(UserError, match="neither host:port") as caught:
        parse_address(text)
    assert f'"{text}"' in str(caught.value)
