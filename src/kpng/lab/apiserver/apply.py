"""Server-side apply: who owns which field, in the FieldsV1 form of metadata.managedFields.

Only appliers are recorded (operation Apply); plain updates own nothing here, so they never conflict.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.patch import same_json
from kpng.lab.apiserver.registry import Kind, Object

Path = tuple[str, ...]
"""Steps as in FieldsV1: f:spec, k:{"port":80}, v:"text", and a final "." for a list item itself."""

_IDENTITY = {
    ("f:apiVersion",),
    ("f:kind",),
    *(("f:metadata", f"f:{name}") for name in ("name", "namespace", "resourceVersion", "uid", "managedFields")),
}
_MISSING = object()


def apply(kind: Kind, live: Object, config: Object, manager: str, force: bool) -> Object:
    """``live`` after ``manager`` applied ``config``. Raises 409 on conflicts unless ``force``."""
    entries = _entries(live)
    wanted = owned_paths(kind, config)
    previous = entries.pop(manager, set())
    contested = _contested(live, merged(kind, live, config), wanted, entries)
    if contested and not force:
        raise _conflict(contested)
    for other, path in contested:
        entries[other].discard(path)
    result = merged(kind, live, config)
    for path in _abandoned(previous, wanted.union(*entries.values())):
        result = _without(result, path)
    entries[manager] = wanted
    return _with_entries(kind, result, entries)


def _abandoned(previous: set[Path], owned: set[Path]) -> list[Path]:
    """What nobody applies any more: list items first, while their keys are still there to find them by."""
    needed = {path[:length] for path in owned for length in range(1, len(path) + 1)}
    return sorted(previous - needed, key=lambda path: (path[-1] != ".", path))


def owned_paths(kind: Kind, config: Object) -> set[Path]:
    """The paths of every leaf that ``config`` sets."""
    return {path for path in _walk(kind, config, "", ()) if path not in _IDENTITY}


def _walk(kind: Kind, value: Any, place: str, path: Path) -> Iterator[Path]:
    keys = kind.merge_keys(place) if isinstance(value, list) else None
    if isinstance(value, dict) and value:
        for field, child in value.items():
            yield from _walk(kind, child, f"{place}.{field}" if place else field, (*path, f"f:{field}"))
    elif keys == ():
        yield from ((*path, f"v:{errors.quoted(item)}") for item in value)
    elif keys:
        for item in value:
            step = (*path, _item_step(item, keys))
            yield (*step, ".")
            yield from _walk(kind, item, place, step)
    else:
        yield path


def _item_step(item: Object, keys: tuple[str, ...]) -> str:
    return f"k:{errors.quoted(dict(sorted(zip(keys, _identity(item, keys), strict=True))))}"


def _identity(item: Object, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """The values of an item's keys; the only key with a default is a port's protocol."""
    return tuple(item.get(key, "TCP" if key == "protocol" else None) for key in keys)


def merged(kind: Kind, live: Any, config: Any, place: str = "") -> Any:
    """``live`` with what ``config`` says laid over it, lists merged by their keys."""
    if isinstance(live, dict) and isinstance(config, dict):
        result = dict(live)
        for field, value in config.items():
            result[field] = merged(kind, live.get(field), value, f"{place}.{field}" if place else field)
        return result
    keys = kind.merge_keys(place) if isinstance(config, list) else None
    if keys is None or not isinstance(live, list):
        return config
    if keys == ():
        return live + [item for item in config if item not in live]
    by_key = {_identity(item, keys): item for item in live}
    for item in config:
        by_key[_identity(item, keys)] = merged(kind, by_key.get(_identity(item, keys)), item, place)
    return list(by_key.values())


def _contested(
    live: Object, result: Object, wanted: set[Path], entries: dict[str, set[Path]]
) -> list[tuple[str, Path]]:
    """The fields of other managers that would change their value."""
    return [
        (other, path)
        for other, paths in sorted(entries.items())
        for path in sorted(paths & wanted)
        if path[-1] != "." and not same_json(_value(live, path), _value(result, path))
    ]


def _conflict(contested: list[tuple[str, Path]]) -> errors.ApiError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{other}"', "field": _dotted(path)}
        for other, path in contested
    ]
    plural = "s" if len(causes) > 1 else ""
    text = ", ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    message = f"Apply failed with {len(causes)} conflict{plural}: {text}"
    return errors.ApiError(409, "Conflict", message, {"causes": causes})


def _dotted(path: Path) -> str:
    return "".join(f".{step[2:]}" if step.startswith("f:") else f"[{step[2:]}]" for step in path)


def _matches_step(item: Any, step: str) -> bool:
    wanted = msgspec.json.decode(step[2:])
    if step.startswith("v:"):
        return bool(item == wanted)
    keys = tuple(wanted)
    return _identity(item, keys) == tuple(wanted.values())


def _value(node: Any, path: Path) -> Any:
    for step in path:
        if step.startswith("f:"):
            node = node.get(step[2:], _MISSING) if isinstance(node, dict) else _MISSING
        elif isinstance(node, list):
            node = next((item for item in node if _matches_step(item, step)), _MISSING)
    return node


def _without(node: Any, path: Path) -> Any:
    """``node`` without what is at ``path``; an item is removed whole, by its path that ends in a dot."""
    step, rest = path[0], path[1:]
    last = not rest or rest == (".",)
    if step.startswith("f:") and isinstance(node, dict) and step[2:] in node:
        if last:
            return {field: value for field, value in node.items() if field != step[2:]}
        return node | {step[2:]: _without(node[step[2:]], rest)}
    if not step.startswith("f:") and isinstance(node, list):
        if last:
            return [item for item in node if not _matches_step(item, step)]
        return [_without(item, rest) if _matches_step(item, step) else item for item in node]
    return node


def _entries(live: Object) -> dict[str, set[Path]]:
    return {
        entry["manager"]: set(_flatten(entry["fieldsV1"], ()))
        for entry in live["metadata"].get("managedFields", ())
        if entry.get("operation") == "Apply" and "fieldsV1" in entry
    }


def _flatten(fields: Object, path: Path) -> Iterator[Path]:
    for step, below in fields.items():
        if below:
            yield from _flatten(below, (*path, step))
        else:
            yield (*path, step)


def _nested(paths: set[Path]) -> Object:
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    return tree


def _with_entries(kind: Kind, thing: Object, entries: dict[str, set[Path]]) -> Object:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {entry.get("manager"): entry for entry in thing["metadata"].get("managedFields", ())}
    managed = []
    for manager, paths in sorted(entries.items()):
        entry: Object = {"manager": manager, "operation": "Apply", "apiVersion": kind.api_version, "time": now}
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": _nested(paths)}
        old = before.get(manager)
        managed.append(old if old and old.get("fieldsV1") == entry["fieldsV1"] else entry)
    return thing | {"metadata": thing["metadata"] | {"managedFields": managed}}
