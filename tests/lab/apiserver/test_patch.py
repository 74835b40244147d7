"""Patches: RFC 6902, RFC 7386 and strategic merge."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.lab.apiserver import ApiError, ApiServer
from kpng.lab.apiserver.patch import json_patch, merge, same_json, strategic
from kpng.lab.apiserver.registry import NODE, POD, SERVICE

PATH = "/api/v1/namespaces/default/services"
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b/c", "~"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b/c", "~", "1"]), inner),
    max_leaves=8,
)


def pointer(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def difference(old: Any, new: Any, path: str = "") -> list[dict[str, Any]]:
    """A JSON patch from ``old`` to ``new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        operations = [{"op": "remove", "path": f"{path}/{pointer(key)}"} for key in old.keys() - new.keys()]
        for key in new:
            place = f"{path}/{pointer(key)}"
            if key in old:
                operations += difference(old[key], new[key], place)
            else:
                operations.append({"op": "add", "path": place, "value": new[key]})
        return operations
    return [] if same_json(old, new) else [{"op": "replace", "path": path, "value": new}]


@given(JSON, JSON)
def test_a_json_patch_leads_from_any_document_to_any_other(old: Any, new: Any) -> None:
    before = deepcopy(old)
    assert same_json(json_patch(old, difference(old, new)), new)
    assert same_json(old, before)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "add", "path": "/l/0", "value": 9}, {"l": [9, 1, 2], "m": {"x": 1}}),
        ({"op": "add", "path": "/l/-", "value": 9}, {"l": [1, 2, 9], "m": {"x": 1}}),
        ({"op": "add", "path": "/l/2", "value": 9}, {"l": [1, 2, 9], "m": {"x": 1}}),
        ({"op": "remove", "path": "/l/0"}, {"l": [2], "m": {"x": 1}}),
        ({"op": "replace", "path": "/l/1", "value": 9}, {"l": [1, 9], "m": {"x": 1}}),
        ({"op": "move", "from": "/m/x", "path": "/l/0"}, {"l": [1, 1, 2], "m": {}}),
        ({"op": "copy", "from": "/l", "path": "/m/y"}, {"l": [1, 2], "m": {"x": 1, "y": [1, 2]}}),
        ({"op": "test", "path": "/m/x", "value": 1}, {"l": [1, 2], "m": {"x": 1}}),
        ({"op": "replace", "path": "", "value": []}, []),
    ],
)
def test_json_patch_operations(operation: dict[str, Any], expected: Any) -> None:
    assert json_patch({"l": [1, 2], "m": {"x": 1}}, [operation]) == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "add", "path": "/l/4", "value": 1},
        {"op": "add", "path": "/l/01x", "value": 1},
        {"op": "add", "path": "/none/x", "value": 1},
        {"op": "add", "path": "l", "value": 1},
        {"op": "add", "path": "/l"},
        {"op": "test", "path": "/l/0", "value": True},
        {"op": "odd", "path": "/l"},
        {"path": "/l"},
        "text",
    ],
)
def test_json_patches_that_do_not_fit(operation: Any) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({"l": [1, 2]}, [operation])
    assert caught.value.code == 422


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


@given(JSON, JSON)
def test_merge_patch(old: Any, patch: Any) -> None:
    result = merge(old, patch)
    assert same_json(merge(result, patch), result)
    if not isinstance(patch, dict):
        assert same_json(result, patch)
    else:
        kept = old if isinstance(old, dict) else {}
        assert all(same_json(result[key], kept[key]) for key in kept.keys() - patch.keys())
        assert not [key for key, value in patch.items() if value is None and key in result]
        scalars = {key: value for key, value in patch.items() if not isinstance(value, dict) and value is not None}
        assert all(same_json(result[key], value) for key, value in scalars.items())


@given(JSON)
def test_merge_into_nothing_leaves_out_nulls(patch: Any) -> None:
    assert same_json(merge(None, patch), without_nulls(patch))


HTTP = {"name": "http", "port": 80, "protocol": "TCP"}
DNS = {"name": "dns", "port": 53, "protocol": "UDP"}
DNS_TCP = {"name": "dns-tcp", "port": 53, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"ports": [{"port": 80, "targetPort": 8}]}, [HTTP | {"targetPort": 8}, DNS, DNS_TCP]),
        ({"ports": [{"port": 81}]}, [HTTP, DNS, DNS_TCP, {"port": 81}]),
        ({"ports": [{"port": 80, "$patch": "delete"}]}, [DNS, DNS_TCP]),
        ({"ports": [{"port": 53, "protocol": "TCP", "$patch": "delete"}]}, [HTTP, DNS]),
        ({"ports": [{"port": 99, "$patch": "delete"}]}, [HTTP, DNS, DNS_TCP]),
        ({"ports": [{"port": 80, "protocol": "SCTP"}]}, [HTTP | {"protocol": "SCTP"}, DNS, DNS_TCP]),
        ({"ports": [{"$patch": "replace"}, {"port": 1}]}, [{"port": 1}]),
        ({"ports": [{"port": 80, "name": None}]}, [{"port": 80, "protocol": "TCP"}, DNS, DNS_TCP]),
        (
            {"$setElementOrder/ports": [{"port": 53}, {"port": 80}], "ports": [{"port": 80, "name": "web"}]},
            [DNS, HTTP | {"name": "web"}, DNS_TCP],
        ),
    ],
)
def test_strategic_merge_of_ports(patch: dict[str, Any], expected: list[Any]) -> None:
    current = {"spec": {"ports": [HTTP, DNS, DNS_TCP], "type": "ClusterIP"}}
    before = deepcopy(current)
    result = strategic(SERVICE, current, {"spec": patch})
    assert result == {"spec": {"ports": expected, "type": "ClusterIP"}}
    assert current == before


@pytest.mark.parametrize(
    ("kind", "current", "patch", "expected"),
    [
        (SERVICE, {"spec": {"selector": {"a": "1"}}}, {"spec": {"selector": {"b": "2"}}}, {"a": "1", "b": "2"}),
        (
            SERVICE,
            {"spec": {"selector": {"a": "1"}}},
            {"spec": {"selector": {"$patch": "replace", "b": "2"}}},
            {"b": "2"},
        ),
        (SERVICE, {"spec": {"selector": {"a": "1"}}}, {"spec": {"selector": {"$patch": "delete"}}}, None),
        (SERVICE, {"spec": {"selector": {"a": "1"}}}, {"spec": {"selector": None}}, None),
        (SERVICE, {"spec": {"x": 1, "y": 2}}, {"spec": {"$retainKeys": ["y"], "y": 3}}, None),
        (SERVICE, {"spec": {"externalIPs": ["a", "b"]}}, {"spec": {"externalIPs": ["c"]}}, ["c"]),
        (NODE, {"spec": {"podCIDRs": ["a"]}}, {"spec": {"podCIDRs": ["b", "a"]}}, ["a", "b"]),
        (NODE, {"spec": {"podCIDRs": ["a", "b"]}}, {"spec": {"$deleteFromPrimitiveList/podCIDRs": ["a"]}}, ["b"]),
        (NODE, {"spec": {"taints": [{"key": "a"}]}}, {"spec": {"taints": [{"key": "b"}]}}, [{"key": "b"}]),
        (
            POD,
            {"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]}},
            {"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b"}]}},
            [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}, {"name": "b"}],
        ),
    ],
)
def test_strategic_merge_by_kind(kind: Any, current: Any, patch: Any, expected: Any) -> None:
    (field,) = current["spec"].keys() if len(current["spec"]) == 1 else ["x"]
    assert strategic(kind, current, patch)["spec"].get(field) == expected


def test_a_list_item_needs_its_key() -> None:
    with pytest.raises(ApiError, match="does not contain declared merge key: port"):
        strategic(SERVICE, {"spec": {"ports": [HTTP]}}, {"spec": {"ports": [{"name": "x"}]}})


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON), st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON)
)
def test_where_no_list_has_keys_strategic_merge_is_merge_patch(old: Any, patch: Any) -> None:
    assert same_json(strategic(SERVICE, old, patch), merge(old, patch))


@pytest.mark.parametrize(
    ("kind", "patch", "code"),
    [
        ("application/merge-patch+json", {"spec": {"sessionAffinity": "ClientIP"}}, 200),
        ("application/merge-patch+json", {"spec": {"sessionAffinity": "Odd"}}, 422),
        ("application/merge-patch+json", {"metadata": {"resourceVersion": "1"}}, 409),
        ("application/merge-patch+json", {"metadata": {"name": "other"}}, 400),
        ("application/merge-patch+json", [], 400),
        ("application/strategic-merge-patch+json", {"metadata": {"labels": {"a": "b"}}}, 200),
        ("application/strategic-merge-patch+json", 3, 400),
        ("application/json-patch+json", [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}], 200),
        ("application/json-patch+json", [{"op": "test", "path": "/kind", "value": "Pod"}], 422),
        ("application/json-patch+json", {}, 400),
        ("application/json", {}, 415),
    ],
)
async def test_patches_over_http(
    api: Any, server: ApiServer, service: Any, kind: str, patch: Any, code: int
) -> None:
    server.load([service()])
    revision = server.revision
    answered, body = await api("PATCH", f"{PATH}/web", patch, kind=kind)
    assert answered == code
    assert (server.revision > revision) == (code == 200)
    if code == 200:
        assert await api("GET", f"{PATH}/web") == (200, body)
