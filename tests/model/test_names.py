from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.model import (
    InvalidObjectError,
    check_name,
    check_port_name,
    check_service_type,
    check_zone,
    is_name,
    quoted,
)

Check = Callable[[str, str], str]

GOOD: list[tuple[Check, str]] = [
    (check_name, "web"),
    (check_name, "0"),
    (check_name, "web-5d78f9c7c4-x2x9z"),
    (check_name, "ip-10-0-0-1.eu-west-1.compute.internal"),
    (check_name, "a" * 253),
    (check_port_name, "http"),
    (check_port_name, "80"),
    (check_port_name, "a--b"),  # a label, if no IANA_SVC_NAME
    (check_port_name, "a" * 63),
    (check_zone, "eu-west-1a"),
    (check_zone, "Rack_7.Row.B"),
    (check_zone, "A" * 63),
    (check_service_type, "ClusterIP"),
    (check_service_type, "YetToCome"),
]

ODD = [
    "",
    "-",
    "-a",
    "a-",
    "a b",
    'q"; flush',
    "a\n",
    "\na",
    "a\x00",
    "a'b",
    "a$(b)",
    "a;b",
    "a|b",
    "a/b",
    "é",
    "а",
]

BAD: list[tuple[Check, str]] = [
    *((check, text) for check in (check_name, check_port_name, check_zone, check_service_type) for text in ODD),
    (check_name, "Web"),
    (check_name, "a_b"),
    (check_name, ".a"),
    (check_name, "a."),
    (check_name, "a" * 254),
    (check_port_name, "HTTP"),
    (check_port_name, "a.b"),
    (check_port_name, "a" * 64),
    (check_zone, "_a"),
    (check_zone, "a."),
    (check_zone, "A" * 64),
    (check_service_type, "Cluster-IP"),
    (check_service_type, "A" * 64),
]


@pytest.mark.parametrize(("check", "text"), GOOD)
def test_what_an_api_server_accepts_is_accepted(check: Check, text: str) -> None:
    assert check(text, "f") == text


@pytest.mark.parametrize(("check", "text"), BAD)
def test_what_is_no_name_is_refused_with_its_field(check: Check, text: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        check(text, "spec.x")
    assert caught.value.field == "spec.x"
    assert caught.value.message.isprintable()


@given(st.text())
def test_a_name_has_nothing_in_it_that_anything_could_take_for_its_own(text: str) -> None:
    if is_name(text):
        assert check_name(text) == text
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_a_long_text_is_shown_in_part() -> None:
    assert quoted("a\nb") == r"'a\nb'"
    assert quoted("a" * 80) == f"'{'a' * 80}'"
    assert quoted("a" * 1_000_000) == f"'{'a' * 80}...'"
