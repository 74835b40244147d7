"""Configuration -> YAML: what ``--write-config-to`` writes."""

from __future__ import annotations

from typing import Any

import msgspec

from kpng.wire.yaml import write_yaml

from .duration import Duration
from .types import KubeProxyConfiguration


def configuration_data(config: KubeProxyConfiguration) -> dict[str, Any]:
    """Plain data, with the names of the API, in their order."""
    return _sorted(msgspec.to_builtins(config, enc_hook=_plain))


def write_configuration(config: KubeProxyConfiguration) -> str:
    """The whole configuration with all its defaults; reading it back gives the same."""
    return write_yaml(configuration_data(config))


def _plain(value: object) -> str:
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(type(value))


def _sorted(data: dict[str, Any]) -> dict[str, Any]:
    return {name: _sorted(data[name]) if isinstance(data[name], dict) else data[name] for name in sorted(data)}
