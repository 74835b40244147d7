"""Each field is honoured, or told why not."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.proxyconfig import ANSWERS, Duration, KubeProxyConfiguration, answer_table, apply_defaults, ignored_fields
from kpng.proxyconfig.fields import get_field, leaf_paths, set_field


def test_every_field_has_its_answer_and_no_other() -> None:
    assert list(ANSWERS) == list(leaf_paths())


def another(value: Any) -> Any:
    """A value of the same type that is not the default."""
    if isinstance(value, Duration):
        return type(value)(value.nanoseconds + 1)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "x"]
    return {**value, "X": True} if isinstance(value, dict) else f"{value}x"


@pytest.mark.parametrize("path", ANSWERS)
def test_a_field_that_is_not_heeded_is_named_where_it_says_something(path: str) -> None:
    config = apply_defaults(KubeProxyConfiguration())
    set_field(config, path, another(get_field(config, path)))
    warnings = list(ignored_fields(config))
    if ANSWERS[path].honoured:
        assert warnings == []
    else:
        assert len(warnings) == 1
        assert warnings[0].startswith(f"{path} is set")
        assert ANSWERS[path].text in warnings[0]


def test_the_defaults_draw_no_warning() -> None:
    assert list(ignored_fields(apply_defaults(KubeProxyConfiguration()))) == []


def test_u9_the_one_feature_gate_needs_no_warning() -> None:
    config = apply_defaults(KubeProxyConfiguration(feature_gates={"AllowServiceExternalIPs": False}))
    assert list(ignored_fields(config)) == []
    config.feature_gates["NativeHistograms"] = True
    assert len(list(ignored_fields(config))) == 1


def test_u7_a_field_of_iptables_that_nftables_has_alike_needs_none() -> None:
    config = apply_defaults(KubeProxyConfiguration())
    config.iptables.masquerade_all = config.nftables.masquerade_all = True
    assert list(ignored_fields(config)) == []


def test_the_table_names_each_field_that_is_not_honoured() -> None:
    table = answer_table()
    for path, answer in ANSWERS.items():
        assert (f"`{path}`" in table) is not answer.honoured
