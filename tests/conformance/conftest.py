"""Scenarios in a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kpng.conformance.flows import Flow, Object, Scenario

SERVICE: Object = {
    "metadata": {"name": "web", "namespace": "demo"},
    "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
}
SLICE: Object = {
    "metadata": {"name": "web-1", "namespace": "demo", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "node-a"}],
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
}


def flow_object(**fields: Any) -> Object:
    """A pod asks 10.96.0.1:80 and is sent to 10.1.0.1:8080."""
    return {
        "name": "pod -> web",
        "src_ip": "10.1.0.9",
        "dst_ip": "10.96.0.1",
        "dst_port": 80,
        "proto": "tcp",
        "expect": {"verdict": "dnat", "dnat_to": ["10.1.0.1:8080"], "masquerade": False},
        **fields,
    }


def node_object(**fields: Any) -> Object:
    return {
        "name": "node-a",
        "primary_ip": "192.0.2.10",
        "local_ips": ["192.0.2.10"],
        "detect_local": {"mode": "ClusterCIDR", "value": "10.1.0.0/16"},
        **fields,
    }


def scenario_object(**fields: Any) -> Object:
    """One service with one endpoint, one flow."""
    return {
        "name": "a service",
        "mode": "nftables",
        "node": node_object(),
        "services": [SERVICE],
        "endpointslices": [SLICE],
        "flows": [flow_object()],
        **fields,
    }


@pytest.fixture
def make_flow() -> Callable[..., Flow]:
    return lambda **fields: msgspec.convert(flow_object(**fields), Flow)


@pytest.fixture
def make_scenario() -> Callable[..., Scenario]:
    def make(*, node: Object | None = None, **fields: Any) -> Scenario:
        return msgspec.convert(scenario_object(node=node_object(**(node or {})), **fields), Scenario)

    return make


@pytest.fixture
def scenario_json() -> Callable[..., Object]:
    return scenario_object


@pytest.fixture
def flow_json() -> Callable[..., Object]:
    return flow_object


@pytest.fixture
def node_json() -> Callable[..., Object]:
    return node_object
