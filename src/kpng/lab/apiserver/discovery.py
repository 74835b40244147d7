"""What the server offers: /version, /api, /apis, both in the plain and in the aggregated form (KEP-3352)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from kpng.lab.apiserver.registry import KINDS, VERBS, Kind, Object
from kpng.lab.apiserver.views import media_types

VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.0-kpng-lab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}
AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_STATUS_VERBS = ("get", "patch", "update")


def answer(path: str, accept: str) -> tuple[Object, str] | None:
    """The document at a discovery path and its content type; None for other paths."""
    if path in ("/api", "/apis") and _wants_aggregated(accept):
        return _aggregated(path), AGGREGATED_TYPE
    document = _documents().get(path)
    return None if document is None else (document, "application/json")


def _wants_aggregated(accept: str) -> bool:
    for media_type, parameters in media_types(accept):
        if media_type == "application/json" and parameters.get("as") in (None, "APIGroupDiscoveryList"):
            return bool(parameters.get("as")) and parameters.get("v") == "v2"
    return False


def _documents() -> dict[str, Object]:
    groups = [_group(kind) for kind in KINDS if kind.group]
    unique = list({group["name"]: group for group in groups}.values())
    versions = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    documents: dict[str, Object] = {
        "/version": VERSION,
        "/api": versions,
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": unique},
    }
    documents |= {f"/apis/{group['name']}": group | {"kind": "APIGroup", "apiVersion": "v1"} for group in unique}
    return documents | {root: _resource_list(kinds) for root, kinds in by_root().items()}


def by_root() -> dict[str, list[Kind]]:
    """The kinds by the path of their group and version."""
    ordered = sorted(KINDS, key=lambda kind: (kind.root, kind.plural))
    return {root: list(kinds) for root, kinds in groupby(ordered, key=lambda kind: kind.root)}


def _group(kind: Kind) -> Object:
    version = {"groupVersion": kind.api_version, "version": kind.version}
    return {"name": kind.group, "versions": [version], "preferredVersion": version}


def _resource_list(kinds: Iterable[Kind]) -> Object:
    kinds = list(kinds)
    resources = [entry for kind in kinds for entry in _resources(kind)]
    version = kinds[0].api_version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _resources(kind: Kind) -> list[Object]:
    entry: Object = {"name": kind.plural, "singularName": kind.name.lower(), "namespaced": kind.namespaced}
    entry |= {"kind": kind.name, "verbs": VERBS}
    if kind.short_names:
        entry["shortNames"] = kind.short_names
    if kind.categories:
        entry["categories"] = kind.categories
    if not kind.has_status:
        return [entry]
    status = {"name": f"{kind.plural}/status", "singularName": "", "namespaced": kind.namespaced}
    return [entry, status | {"kind": kind.name, "verbs": _STATUS_VERBS}]


def _aggregated(path: str) -> Object:
    items = [_aggregated_group(kinds) for root, kinds in by_root().items() if root.startswith(f"{path}/")]
    head: Object = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}}
    return head | {"items": items}


def _aggregated_group(kinds: list[Kind]) -> Object:
    resources = [_aggregated_resource(kind) for kind in kinds]
    version = {"version": kinds[0].version, "resources": resources, "freshness": "Current"}
    return {"metadata": {"name": kinds[0].group}, "versions": [version]}


def _aggregated_resource(kind: Kind) -> Object:
    response = {"group": kind.group, "version": kind.version, "kind": kind.name}
    entry: Object = {"resource": kind.plural, "responseKind": response, "singularResource": kind.name.lower()}
    entry |= {"scope": "Namespaced" if kind.namespaced else "Cluster", "verbs": VERBS}
    entry |= {"shortNames": kind.short_names, "categories": kind.categories}
    if kind.has_status:
        entry["subresources"] = [{"subresource": "status", "responseKind": response, "verbs": _STATUS_VERBS}]
    return entry
