from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kpng.localize.keys import endpoint_keys
from kpng.model import EndpointInfo
from kpng.testing import endpoint_info

POD = endpoint_info("10.1.0.1", pod_name="web-1")
POD_V6 = endpoint_info("fd00::1", pod_name="web-1")
PLAIN = endpoint_info("10.1.0.9")


def test_an_endpoint_is_named_after_its_pod() -> None:
    assert endpoint_keys([("s", POD)]) == ["web-1"]


def test_both_addresses_of_a_dual_stack_pod_have_a_key() -> None:
    assert endpoint_keys([("v4", POD), ("v6", POD_V6)]) == ["web-1", "web-1:ipv6"]
    assert endpoint_keys([("v6", POD_V6), ("v4", POD)]) == ["web-1:ipv6", "web-1"]


def test_a_pod_in_two_slices_has_two_keys() -> None:
    assert endpoint_keys([("a", POD), ("b", POD)]) == ["web-1", "web-1:b"]


def test_a_pod_twice_in_a_slice_has_as_many_keys() -> None:
    keys = endpoint_keys([("a", POD)] * 4)
    assert len(set(keys)) == 4
    assert keys[:2] == ["web-1", "web-1:a"]


def test_without_a_pod_the_key_is_what_identifies_the_endpoint() -> None:
    (key,) = endpoint_keys([("s", PLAIN)])
    assert len(key) == 16
    int(key, 16)
    assert endpoint_keys([("other", PLAIN)]) == [key]
    assert endpoint_keys([("s", endpoint_info("10.1.0.8"))]) != [key]
    assert endpoint_keys([("s", endpoint_info("10.1.0.9", port=81))]) != [key]


@pytest.mark.parametrize("name", ["a/b", "a\nb", "a:ipv6", "../x", "\x1b[2J", "-", " ", "a b", "ü"])
def test_what_is_no_name_is_in_no_key(name: str) -> None:
    (key,) = endpoint_keys([("s", endpoint_info("10.1.0.1", pod_name=name))])
    assert re.fullmatch("[0-9a-f]{16}", key)
    first, second = endpoint_keys([("s", POD), (name, POD)])
    assert first == "web-1"
    assert re.fullmatch("web-1:[0-9a-f]{16}", second)


def test_a_change_of_conditions_hints_or_node_keeps_the_key() -> None:
    changed = replace(PLAIN, ready=False, terminating=True, zone_hints=("za",), node_hints=("n1",), node="n1")
    assert endpoint_keys([("s", PLAIN)]) == endpoint_keys([("s", changed)])


_infos = st.builds(
    endpoint_info,
    st.sampled_from(["10.1.0.1", "10.1.0.2", "fd00::1"]),
    pod_name=st.sampled_from(["", "a", "b", "a:ipv6", "a:s", "a:s+"]),
    port=st.sampled_from([0, 80]),
)


@given(st.lists(st.tuples(st.sampled_from(["", "s", "t", "ipv6"]), _infos), max_size=8))
def test_keys_are_unique_and_the_same_each_time(endpoints: list[tuple[str, EndpointInfo]]) -> None:
    keys = endpoint_keys(endpoints)
    assert len(set(keys)) == len(keys) == len(endpoints)
    assert endpoint_keys(endpoints) == keys
    assert endpoint_keys(iter(endpoints[:3])) == keys[:3]
