"""EndpointSlices: defaults and checks."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.lab.apiserver import ApiServer

PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


async def test_defaults(api: Any, endpoint_slice: Any) -> None:
    code, made = await api("POST", PATH, endpoint_slice(ports=[{"port": 80}]))
    assert (code, made["ports"]) == (201, [{"name": "", "port": 80, "protocol": "TCP"}])


async def test_an_empty_slice_has_null_lists(api: Any, endpoint_slice: Any) -> None:
    thing = endpoint_slice()
    del thing["ports"], thing["endpoints"]
    _, made = await api("POST", PATH, thing)
    assert (made["ports"], made["endpoints"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"addressType": ""}, "addressType: Required value"),
        (
            {"addressType": "IPv5"},
            'addressType: Unsupported value: "IPv5": supported values: "FQDN", "IPv4", "IPv6"',
        ),
        ({"addressType": "IPv6"}, 'endpoints[0].addresses[0]: Invalid value: "10.1.0.1": must be an IPv6 address'),
        ({"endpoints": [{}]}, "endpoints[0].addresses: Required value: must contain at least 1 address"),
        ({"endpoints": [{"addresses": ["x"]}]}, "endpoints[0].addresses[0]: Invalid value"),
        ({"endpoints": [{"addresses": ["10.0.0.1"] * 101}]}, "endpoints[0].addresses: Too many: 101"),
        ({"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001}, "endpoints: Too many: 1001: must have at most 1000"),
        ({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "A b"}]}, "endpoints[0].nodeName: Invalid value"),
        ({"ports": [{"port": 0}]}, "ports[0].port: Invalid value: 0"),
        ({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}, 'ports[1].name: Duplicate value: "a"'),
        ({"ports": [{"name": "A", "port": 1}]}, 'ports[0].name: Invalid value: "A"'),
        ({"ports": [{"port": 1, "protocol": "tcp"}]}, 'ports[0].protocol: Unsupported value: "tcp"'),
        (
            {"addressType": "FQDN", "endpoints": [{"addresses": ["a_b"]}]},
            "endpoints[0].addresses[0]: Invalid value",
        ),
    ],
)
async def test_invalid_slices(api: Any, endpoint_slice: Any, fields: dict[str, Any], message: str) -> None:
    code, status = await api("POST", PATH, endpoint_slice(**fields))
    assert code == 422
    assert status["message"].startswith('EndpointSlice.discovery.k8s.io "web-1" is invalid: ')
    assert message in status["message"]
    assert status["details"]["group"] == "discovery.k8s.io"


async def test_the_address_type_is_fixed(api: Any, server: ApiServer, endpoint_slice: Any) -> None:
    server.load([endpoint_slice()])
    changed = endpoint_slice(addressType="IPv6", endpoints=[{"addresses": ["fd00::1"]}])
    code, status = await api("PUT", f"{PATH}/web-1", changed)
    assert (code, "addressType: Invalid value" in status["message"]) == (422, True)


@pytest.mark.parametrize(("key", "value"), [("a b", "c"), ("/a", "c"), ("a", "c d"), ("a", "-c"), ("a", 3)])
async def test_labels_are_checked(api: Any, endpoint_slice: Any, key: str, value: Any) -> None:
    thing = endpoint_slice()
    thing["metadata"]["labels"] = {key: value}
    code, status = await api("POST", PATH, thing)
    assert (code, status["details"]["causes"][0]["field"]) == (422, "metadata.labels")
