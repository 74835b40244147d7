"""Three kinds of patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch.

None changes its input in place; parts that stay the same are shared between input and result.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.registry import Kind, Object

_ORDER, _DROP = "$setElementOrder/", "$deleteFromPrimitiveList/"


def merge(current: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(current) if isinstance(current, dict) else {}
    for field, value in patch.items():
        if value is None:
            result.pop(field, None)
        else:
            result[field] = merge(result.get(field), value)
    return result


# -- JSON patch --------------------------------------------------------------------------------------------


def json_patch(current: Any, operations: Any) -> Any:
    """RFC 6902. Raises 422 if an operation does not fit the document, 400 if it is none."""
    if not isinstance(operations, list):
        raise errors.bad_request("error decoding patch: a JSON patch is a list of operations")
    document = deepcopy(current)
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            text = f"the server rejected our request due to an error in our request: {operation}: {error}"
            raise errors.ApiError(422, "Invalid", text) from error
    return document


def _operate(document: Any, operation: Object) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            return _add(document, path, deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "replace":
            _find(document, path)
            return _add(_remove(document, path), path, deepcopy(operation["value"]))
        case "copy":
            return _add(document, path, deepcopy(_find(document, _pointer(operation["from"]))))
        case "move":
            value = _find(document, source := _pointer(operation["from"]))
            return _add(_remove(document, source), path, value)
        case "test":
            if not same_json(_find(document, path), operation["value"]):
                raise ValueError("testing value failed")
            return document
        case other:
            raise ValueError(f"unexpected kind: {other}")


def same_json(left: Any, right: Any) -> bool:
    """Equality of JSON values: unlike in Python, true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(f"bad JSON pointer {text!r}")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _index(items: list[Any], step: str, limit: int) -> int:
    index = int(step) if step.isdecimal() else -1
    if not 0 <= index < limit:
        raise IndexError(f"no index {step!r} in a list of {len(items)}")
    return index


def _child(node: Any, step: str) -> Any:
    return node[_index(node, step, len(node))] if isinstance(node, list) else node[step]


def _find(document: Any, path: Sequence[str]) -> Any:
    for step in path:
        document = _child(document, step)
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _find(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(parent, last, len(parent) + 1), value)
    else:
        parent[last] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        return None
    parent, last = _find(document, path[:-1]), path[-1]
    del parent[_index(parent, last, len(parent)) if isinstance(parent, list) else last]
    return document


# -- strategic merge patch ---------------------------------------------------------------------------------


def strategic(kind: Kind, current: Object, patch: Object, path: str = "") -> Object:
    """Merge patch that merges lists by their keys, with $patch, $retainKeys, $setElementOrder directives.

    See "Strategic Merge Patch" of the API conventions (sig-api-machinery/strategic-merge-patch.md).
    """
    if patch.get("$patch") == "replace":
        return {field: value for field, value in patch.items() if field != "$patch"}
    retained = patch.get("$retainKeys")
    result = {field: value for field, value in current.items() if retained is None or field in retained}
    for field, value in patch.items():
        if not field.startswith("$"):
            _merge_field(kind, result, field, value, f"{path}.{field}" if path else field)
    for field, value in patch.items():
        _direct(kind, result, field, value, path)
    return result


def _merge_field(kind: Kind, result: Object, field: str, value: Any, path: str) -> None:
    if value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
        result.pop(field, None)
    elif isinstance(value, dict):
        old = result.get(field)
        result[field] = strategic(kind, old if isinstance(old, dict) else {}, value, path)
    elif isinstance(value, list):
        result[field] = _merge_list(kind, result.get(field) or [], value, path)
    else:
        result[field] = value


def _merge_list(kind: Kind, current: list[Any], patch: list[Any], path: str) -> list[Any]:
    keys = kind.merge_keys(path)
    items = [item for item in patch if item != {"$patch": "replace"}]
    if keys is None or len(items) < len(patch):
        return items
    result = list(current)
    if not keys:
        return result + [item for item in items if item not in result]
    for item in items:
        _merge_item(kind, result, item, keys, path)
    return result


def _merge_item(kind: Kind, result: list[Any], item: Object, keys: tuple[str, ...], path: str) -> None:
    index = _position(result, item, keys)
    if item.get("$patch") == "delete":
        if index is not None:
            del result[index]
    elif index is None:
        result.append(strategic(kind, {}, item, path))
    else:
        result[index] = strategic(kind, result[index], item, path)


def _position(items: Sequence[Object], wanted: Object, keys: tuple[str, ...]) -> int | None:
    """Where ``wanted`` is: by all the keys it names, else by the first, the only one the Go types declare."""
    if keys[0] not in wanted:
        raise errors.bad_request(f"map: {wanted} does not contain declared merge key: {keys[0]}")
    named = [key for key in keys if key in wanted]
    for subset in (named, named[:1]):
        for index, item in enumerate(items):
            if all(item.get(key) == wanted[key] for key in subset):
                return index
    return None


def _direct(kind: Kind, result: Object, field: str, value: Any, path: str) -> None:
    """Carry out a directive on the list ``result[...]`` that it names."""
    name = field.partition("/")[2]
    items = result.get(name)
    if not isinstance(items, list):
        return
    if field.startswith(_DROP):
        result[name] = [item for item in items if item not in value]
    elif field.startswith(_ORDER):
        keys = kind.merge_keys(f"{path}.{name}" if path else name)
        result[name] = _ordered(items, value, keys or ())


def _ordered(items: list[Any], order: list[Any], keys: tuple[str, ...]) -> list[Any]:
    """``items`` in the order of ``order``; those it does not name stay behind, in their own order."""
    places = [_position(items, wanted, keys) if keys else _place(items, wanted) for wanted in order]
    first = list(dict.fromkeys(place for place in places if place is not None))
    rest = [index for index in range(len(items)) if index not in first]
    return [items[index] for index in (*first, *rest)]


def _place(items: list[Any], wanted: Any) -> int | None:
    return items.index(wanted) if wanted in items else None
