"""Whatever is in the file, it is read, or refused in one line; and what is read can be judged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpng.model import UserError
from kpng.proxyconfig import apply_defaults, ignored_fields, mistakes, read_configuration, write_configuration
from kpng.proxyconfig.fields import leaf_paths
from kpng.wire.yaml import write_yaml

HEAD = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "30s", "-1s", "0", "10.0.0.0/8", "::1", "[::1]:80", "primary", "nftables", "a" * 300, "\0", "é"]
    ),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = dict(HEAD)
    for path, value in flat.items():
        *sections, last = path.split(".")
        place: Any = document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return document


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*leaf_paths(), "unknown", "nftables.unknown"]), values, max_size=4))
def test_any_values(flat: dict[str, Any]) -> None:
    said = ""
    try:
        reading = read_configuration(write_yaml(nest(flat)).encode(), "proxy.yaml")
    except UserError as error:
        said = str(error)
    if said:
        assert "\n" not in said
        assert said.startswith("proxy.yaml")
        return
    config = apply_defaults(reading.config)
    assert all(": " in fault and "\n" not in fault for fault in mistakes(config))
    assert all("\n" not in told for told in ignored_fields(config))
    assert read_configuration(write_configuration(config).encode(), "again").config == config


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(content: bytes) -> None:
    with pytest.raises(UserError) as caught:
        read_configuration(content, "proxy.yaml")
    assert str(caught.value).startswith("proxy.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", ["nftables", "conntrack", "logging", "detectLocal"])
@pytest.mark.parametrize("value", ["text", "1", "[]", "[1]", "true"])
def test_a_section_that_is_none(section: str, value: str) -> None:
    head = "".join(f"{name}: {text}\n" for name, text in HEAD.items())
    with pytest.raises(UserError, match=f"proxy.yaml: {section}: expected"):
        read_configuration(f"{head}{section}: {value}\n".encode(), "proxy.yaml")


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(UserError, match="nested more than"):
        read_configuration(b"[" * 100_000, "proxy.yaml")
