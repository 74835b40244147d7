"""Discovery and OpenAPI documents."""

from __future__ import annotations

from typing import Any

from kpng.lab.apiserver.registry import KINDS


async def test_plain_discovery_leads_to_every_kind(api: Any) -> None:
    _, versions = await api("GET", "/api")
    _, groups = await api("GET", "/apis")
    roots = [f"/api/{version}" for version in versions["versions"]]
    roots += [f"/apis/{version['groupVersion']}" for group in groups["groups"] for version in group["versions"]]
    found = set()
    for root in roots:
        _, listing = await api("GET", root)
        for resource in listing["resources"]:
            found.add((listing["groupVersion"], resource["kind"]))
            if "/" not in resource["name"]:
                assert (await api("GET", f"{root}/{resource['name']}"))[0] == 200
    assert found == {(kind.api_version, kind.name) for kind in KINDS}


async def test_one_group(api: Any) -> None:
    _, group = await api("GET", "/apis/discovery.k8s.io")
    assert group["preferredVersion"] == {"groupVersion": "discovery.k8s.io/v1", "version": "v1"}
    assert (await api("GET", "/apis/apps"))[0] == 404


async def test_openapi_says_that_the_server_validates(api: Any) -> None:
    _, index = await api("GET", "/openapi/v3")
    kinds = set()
    for entry in index["paths"].values():
        _, document = await api("GET", entry["serverRelativeURL"])
        for item in document["paths"].values():
            if "patch" in item:
                assert "fieldValidation" in [parameter["name"] for parameter in item["patch"]["parameters"]]
                kinds.add(item["patch"]["x-kubernetes-group-version-kind"]["kind"])
    assert kinds == {kind.name for kind in KINDS}
