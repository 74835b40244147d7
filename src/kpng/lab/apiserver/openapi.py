"""The least OpenAPI v3 that kubectl wants: that every kind takes the fieldValidation and dryRun parameters.

Without it `kubectl apply` wants a full schema to check objects against before it sends them. There are no
schemas here: unknown fields are kept, `kubectl explain` has nothing to say.
"""

from __future__ import annotations

from kpng.lab.apiserver.discovery import by_root
from kpng.lab.apiserver.registry import Kind, Object

_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


def answer(path: str) -> Object | None:
    """The document at an OpenAPI path, or None."""
    roots = {f"/openapi/v3{root}": kinds for root, kinds in by_root().items()}
    if path == "/openapi/v3":
        paths = {root.removeprefix("/openapi/v3/"): {"serverRelativeURL": f"{root}?hash=1"} for root in roots}
        return {"paths": paths}
    if path not in roots:
        return None
    info = {"title": "kpng lab API server", "version": "v1"}
    documents = {place: item for kind in roots[path] for place, item in _paths(kind).items()}
    return {"openapi": "3.0.0", "info": info, "paths": documents, "components": {"schemas": {}}}


def _paths(kind: Kind) -> Object:
    names = ["name", *(["namespace"] if kind.namespaced else [])]
    scope = "/namespaces/{namespace}" if kind.namespaced else ""
    place = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
    operation: Object = {"parameters": _PARAMETERS, "responses": {"200": {"description": "OK"}}}
    operation["x-kubernetes-group-version-kind"] = {"group": kind.group, "version": kind.version, "kind": kind.name}
    collection, one = f"{kind.root}{scope}/{kind.plural}", f"{kind.root}{scope}/{kind.plural}/{{name}}"
    return {
        collection: {"parameters": place[1:], "post": operation | {"x-kubernetes-action": "post"}},
        one: {
            "parameters": place,
            "put": operation | {"x-kubernetes-action": "put"},
            "patch": operation | {"x-kubernetes-action": "patch"},
        },
    }
