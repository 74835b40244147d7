"""What the server offers: /version, /api, /apis."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from kpng.lab.apiserver.registry import KINDS, VERBS, Kind, Object

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
_STATUS_VERBS = ("get", "patch", "update")


def answer(path: str) -> Object | None:
    """The document at a discovery path; None for other paths."""
    groups = [_group(kind) for kind in KINDS if kind.group]
    unique = list({group["name"]: group for group in groups}.values())
    documents: dict[str, Object] = {
        "/version": VERSION,
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": unique},
    }
    documents |= {f"/apis/{group['name']}": group | {"kind": "APIGroup", "apiVersion": "v1"} for group in unique}
    documents |= {root: _resource_list(kinds) for root, kinds in by_root().items()}
    return documents.get(path)


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
