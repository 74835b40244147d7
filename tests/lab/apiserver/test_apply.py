"""Server-side apply."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kpng.lab.apiserver import ApiError
from kpng.lab.apiserver.apply import apply, owned_paths
from kpng.lab.apiserver.registry import SERVICE

PATH = "/api/v1/namespaces/default/services/web"
KIND = "application/apply-patch+yaml"
EMPTY = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}}


def config(**spec: Any) -> dict[str, Any]:
    return EMPTY | {"spec": spec}


def port(number: int, **fields: Any) -> dict[str, Any]:
    return {"name": f"p{number}", "port": number, "protocol": "TCP"} | fields


async def send(api: Any, thing: Any, manager: str = "me", query: str = "") -> tuple[int, Any]:
    body = yaml.safe_dump(thing).encode()
    answer: tuple[int, Any] = await api("PATCH", f"{PATH}?fieldManager={manager}{query}", body, kind=KIND)
    return answer


async def test_apply_creates_then_changes_nothing(api: Any) -> None:
    code, made = await send(api, config(ports=[port(80)]))
    assert code == 201
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["fieldsType"]) == ("me", "Apply", "FieldsV1")
    item = entry["fieldsV1"]["f:spec"]["f:ports"]['k:{"port":80,"protocol":"TCP"}']
    assert item == {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}
    assert await send(api, config(ports=[port(80)])) == (200, made)


async def test_what_is_no_longer_applied_goes(api: Any) -> None:
    await send(api, config(ports=[port(80), port(81)], selector={"a": "1", "b": "2"}, sessionAffinity="ClientIP"))
    code, after = await send(api, config(ports=[port(81)], selector={"b": "2"}))
    assert code == 200
    assert [item["port"] for item in after["spec"]["ports"]] == [81]
    assert after["spec"]["selector"] == {"b": "2"}
    assert after["spec"]["sessionAffinity"] == "None"


async def test_two_managers_share_an_object(api: Any) -> None:
    await send(api, config(ports=[port(80)]))
    code, _ = await send(api, config(ports=[port(81)]), "you")
    assert code == 200
    code, status = await send(api, config(ports=[port(80, name="other"), port(81)]), "you")
    assert (code, status["reason"]) == (409, "Conflict")
    assert status["message"] == (
        'Apply failed with 1 conflict: conflict with "me": .spec.ports[{"port":80,"protocol":"TCP"}].name'
    )
    assert status["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    code, after = await send(api, config(ports=[port(80, name="other"), port(81)]), "you", "&force=true")
    assert [item["name"] for item in after["spec"]["ports"]] == ["other", "p81"]
    _, after = await send(api, EMPTY, "you")
    assert [item["port"] for item in after["spec"]["ports"]] == [80]


async def test_agreeing_is_no_conflict_and_both_must_let_go(api: Any) -> None:
    await send(api, config(ports=[port(80)], selector={"a": "1"}))
    assert (await send(api, config(ports=[port(80)], selector={"a": "1"}), "you"))[0] == 200
    _, after = await send(api, config(ports=[port(80)]))
    assert after["spec"]["selector"] == {"a": "1"}
    _, after = await send(api, config(ports=[port(80)]), "you")
    assert "selector" not in after["spec"] or after["spec"]["selector"] == {}


async def test_a_manager_is_required(api: Any) -> None:
    code, status = await send(api, config(), "")
    assert (code, "fieldManager: Required value: is required for apply patch" in status["message"]) == (422, True)


async def test_ownership_outlives_an_update_that_does_not_mention_it(api: Any) -> None:
    await send(api, config(ports=[port(80)], selector={"a": "1"}))
    code, after = await api("PUT", PATH, config(ports=[port(80)], selector={"a": "1", "b": "2"}))
    assert (code, after["metadata"]["managedFields"][0]["manager"]) == (200, "me")
    _, after = await send(api, config(ports=[port(80)]))
    assert after["spec"]["selector"] == {"b": "2"}


async def test_dry_run(api: Any) -> None:
    assert (await send(api, config(ports=[port(80)]), "me", "&dryRun=All"))[0] == 201
    assert (await api("GET", PATH))[0] == 404


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["ClusterIP", "NodePort"]),
        "selector": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
        "ports": st.lists(st.integers(1, 3), unique=True).map(lambda numbers: [port(number) for number in numbers]),
    },
)


@given(st.lists(SPECS, min_size=1, max_size=4))
def test_one_manager_gets_what_it_applied_last(specs: list[dict[str, Any]]) -> None:
    thing: dict[str, Any] = EMPTY
    for spec in specs:
        thing = apply(SERVICE, thing, config(**spec), "me", force=False)
    last = specs[-1]
    live = thing.get("spec", {})
    assert live.get("type") == last.get("type")
    assert (live.get("selector") or {}) == last.get("selector", {})
    assert sorted(item["port"] for item in live.get("ports") or ()) == sorted(
        item["port"] for item in last.get("ports", ())
    )


def test_owned_paths_name_items_by_their_keys() -> None:
    thing = config(ports=[{"port": 80}], selector={}, externalIPs=["192.0.2.1"])
    thing["metadata"] = thing["metadata"] | {"labels": {"a": "b"}, "finalizers": ["x"]}
    item = 'k:{"port":80,"protocol":"TCP"}'
    assert owned_paths(SERVICE, thing) == {
        ("f:metadata", "f:labels", "f:a"),
        ("f:metadata", "f:finalizers", 'v:"x"'),
        ("f:spec", "f:ports", item, "."),
        ("f:spec", "f:ports", item, "f:port"),
        ("f:spec", "f:selector"),
        ("f:spec", "f:externalIPs"),
    }


@given(SPECS, SPECS)
def test_force_always_wins(mine: dict[str, Any], yours: dict[str, Any]) -> None:
    thing = apply(SERVICE, EMPTY, config(**mine), "me", force=False)
    both = mine.keys() & yours.keys()
    conflicts = "type" in both and mine["type"] != yours["type"]
    pairs = [mine.get("selector", {}), yours.get("selector", {})]
    conflicts |= any(pairs[0][key] != pairs[1][key] for key in pairs[0].keys() & pairs[1].keys())
    if conflicts:
        with pytest.raises(ApiError, match="Apply failed with"):
            apply(SERVICE, thing, config(**yours), "you", force=False)
    after = apply(SERVICE, thing, config(**yours), "you", force=True)
    assert after["spec"].get("type") == yours.get("type", mine.get("type"))
