"""Create, update, patch and delete: what the registry of the real server does between HTTP and storage."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from kpng.lab.apiserver import apply, errors, patch
from kpng.lab.apiserver.allocation import ServiceAllocator
from kpng.lab.apiserver.defaults import set_defaults
from kpng.lab.apiserver.registry import BY_NAME, NAMESPACE, SERVICE, Key, Kind, Object
from kpng.lab.apiserver.storage import Storage, Stored
from kpng.lab.apiserver.validation import validate

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_KEPT_METADATA = ("uid", "creationTimestamp", "deletionTimestamp", "generation", "generateName")
_BUILT_IN_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


@dataclass(frozen=True)
class Target:
    """What a write is about: an object, or its status only; ``dry_run`` stores nothing."""

    kind: Kind
    key: Key
    subresource: str = ""
    dry_run: bool = False


class Resources:
    """The objects behind the API, with its rules."""

    def __init__(self, storage: Storage, allocator: ServiceAllocator) -> None:
        self.storage = storage
        self._allocator = allocator
        storage.observers.append(allocator.record)
        for name in _BUILT_IN_NAMESPACES:
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def get(self, kind: Kind, key: Key) -> Stored:
        """Raises 404."""
        stored = self.storage.get(kind, key)
        if stored is None:
            raise errors.not_found(kind, key[1])
        return stored

    def create(self, target: Target, thing: Object) -> Stored:
        """Raises 404 for a missing namespace, 409 if it exists, 422 if it is invalid."""
        kind = target.kind
        self._name(target, thing)
        namespace, name = kind.key(thing)
        if kind.namespaced:
            self._check_namespace(kind, namespace, name)
        if self.storage.get(kind, (namespace, name)):
            raise errors.already_exists(kind, name)
        if kind.drops_status:
            thing.pop("status", None)
        self._begin(thing)
        self._admit(kind, thing, None)
        return self._write(target, thing)

    def put(self, thing: Object) -> Stored:
        """Create or replace, status included, with its namespace: for loading what a cluster is to hold."""
        kind = kind_of(thing)
        if kind.namespaced:
            namespace = thing["metadata"].setdefault("namespace", "default")
            if self.storage.get(NAMESPACE, ("", namespace)) is None:
                self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        target = Target(kind, kind.key(thing))
        before = self.storage.get(kind, target.key)
        if before is None:
            self._begin(thing)
        else:
            self._keep(thing, before.object)
        self._admit(kind, thing, before.object if before else None)
        return self._replace(target, before, thing) if before else self._write(target, thing)

    def update(self, target: Target, thing: Object) -> Stored:
        """Raises 404, 409 if the resourceVersion is not the stored one, 422."""
        kind, before = target.kind, self.get(target.kind, target.key)
        self._name(target, thing)
        _check_identity(kind, target.key, thing, before)
        self._keep(thing, before.object)
        thing = self._halves(target, thing, before.object)
        self._admit(kind, thing, before.object)
        return self._replace(target, before, thing)

    def patch(self, target: Target, change: Callable[[Object], Object]) -> Stored:
        """Update to what ``change`` makes of the stored object (which it must not touch)."""
        before = self.get(target.kind, target.key).object
        return self.update(target, _copy(change(before)))

    def apply(self, target: Target, config: Object, manager: str, force: bool) -> tuple[Stored, bool]:
        """Server-side apply; the flag says whether the object is new."""
        kind = target.kind
        self._name(target, config)
        stored = self.storage.get(kind, target.key)
        live = stored.object if stored else _skeleton(kind, target.key)
        result = _copy(apply.apply(kind, live, config, manager, force))
        if stored is None:
            return self.create(target, result), True
        return self.update(target, result), False

    def delete(self, target: Target, options: Object) -> Stored:
        """Delete; a namespace is only marked, until `finish_namespace`. Raises 404, 409."""
        kind, stored = target.kind, self.get(target.kind, target.key)
        _check_preconditions(kind, stored, options.get("preconditions") or {})
        if target.dry_run:
            return stored
        if kind is NAMESPACE:
            return self._mark_deleted(stored)
        return self.storage.remove(kind, target.key)

    def finish_namespace(self, name: str) -> None:
        """Remove a namespace that was deleted, with all that is in it, as the namespace controller does."""
        stored = self.storage.get(NAMESPACE, ("", name))
        if stored is None or "deletionTimestamp" not in stored.object["metadata"]:
            return
        for kind, collection in self.storage.collections.items():
            for key in [key for key in collection.objects if kind.namespaced and key[0] == name]:
                self.delete(Target(kind, key), {})
        self.storage.remove(NAMESPACE, ("", name))

    # -- steps ---------------------------------------------------------------------------------------------

    def _name(self, target: Target, thing: Object) -> None:
        """Complete and check apiVersion, kind, name and namespace."""
        kind, (namespace, name) = target.kind, target.key
        given = (thing.setdefault("apiVersion", kind.api_version), thing.setdefault("kind", kind.name))
        if given != (kind.api_version, kind.name):
            text = f"{given[1]} in version {given[0]!r} cannot be handled as a {kind.name}"
            raise errors.bad_request(text)
        if not isinstance(metadata := thing.setdefault("metadata", {}), dict):
            raise errors.bad_request("metadata: expected an object")
        if kind.namespaced:
            if metadata.setdefault("namespace", namespace) != namespace:
                raise errors.bad_request(
                    f"the namespace of the provided object does not match the namespace sent on the request"
                    f" ({metadata['namespace']} != {namespace})"
                )
        else:
            metadata.pop("namespace", None)
        if not metadata.get("name"):
            metadata["name"] = name or _generated(metadata.get("generateName"), kind)

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        stored = self.storage.get(NAMESPACE, ("", namespace))
        if stored is None:
            raise errors.not_found(NAMESPACE, namespace)
        if "deletionTimestamp" in stored.object["metadata"]:
            raise errors.terminating(kind, name, namespace)

    @staticmethod
    def _begin(thing: Object) -> None:
        metadata = thing["metadata"]
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1}
        metadata.pop("deletionTimestamp", None)

    @staticmethod
    def _keep(thing: Object, before: Object) -> None:
        metadata, old = thing["metadata"], before["metadata"]
        for field in _KEPT_METADATA:
            if field in old:
                metadata[field] = old[field]
            else:
                metadata.pop(field, None)
        if "managedFields" in old:
            metadata.setdefault("managedFields", old["managedFields"])

    @staticmethod
    def _halves(target: Target, thing: Object, before: Object) -> Object:
        """A write to /status changes nothing else, one to the object everything but the status."""
        if not target.kind.has_status:
            return thing
        if target.subresource == "status":
            return _copy(before) | ({"status": thing["status"]} if "status" in thing else {})
        thing.pop("status", None)
        return thing | ({"status": _copy(before["status"])} if "status" in before else {})

    def _admit(self, kind: Kind, thing: Object, before: Object | None) -> None:
        """Defaults, validation, allocation; ``thing`` is completed in place. Raises 422."""
        try:
            set_defaults(kind, thing, before)
            faults = validate(kind, thing, before)
            if not faults and kind is SERVICE:
                faults = self._allocator.assign(thing, before)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            text = f"{kind.name} in version {kind.api_version!r} cannot be handled as a {kind.name}: {error}"
            raise errors.bad_request(text) from error
        if faults:
            raise errors.invalid(kind.qualified, thing["metadata"]["name"], faults, kind.group)

    def _replace(self, target: Target, before: Stored, thing: Object) -> Stored:
        """Store an update, if it changes anything."""
        thing["metadata"]["resourceVersion"] = str(before.revision)
        if patch.same_json(thing, before.object):
            return before
        if _content(thing) != _content(before.object):
            thing["metadata"]["generation"] = before.object["metadata"].get("generation", 0) + 1
        return self._write(target, thing)

    def _write(self, target: Target, thing: Object) -> Stored:
        if target.dry_run:
            return Stored(self.storage.revision, thing, msgspec.json.encode(thing))
        return self.storage.write(target.kind, thing)

    def _mark_deleted(self, stored: Stored) -> Stored:
        if stored.object["metadata"].get("deletionTimestamp"):
            return stored
        thing = _copy(stored.object)
        thing["metadata"] |= {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
        thing["status"] = {"phase": "Terminating"}
        return self.storage.write(NAMESPACE, thing)


def kind_of(thing: Object) -> Kind:
    """The kind of an object. Raises 400 if the server does not have it."""
    found = BY_NAME.get((thing.get("apiVersion", ""), thing.get("kind", "")))
    if found is None:
        raise errors.bad_request(
            f'no matches for kind "{thing.get("kind")}" in version "{thing.get("apiVersion")}"'
        )
    return found


def _copy(thing: Object) -> Object:
    copied: Object = msgspec.json.decode(msgspec.json.encode(thing))
    return copied


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _content(thing: Object) -> Object:
    """What a generation counts: everything but metadata and status."""
    return {field: value for field, value in thing.items() if field not in ("metadata", "status")}


def _generated(prefix: str | None, kind: Kind) -> str:
    if not prefix:
        fault = errors.required("metadata.name", "name or generateName is required")
        raise errors.invalid(kind.qualified, "", [fault], kind.group)
    return prefix[:58] + "".join(random.choices(_SUFFIX_LETTERS, k=5))


def _skeleton(kind: Kind, key: Key) -> Object:
    metadata = {"name": key[1]} | ({"namespace": key[0]} if kind.namespaced else {})
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def _check_identity(kind: Kind, key: Key, thing: Object, before: Stored) -> None:
    """An update must name the object of its URL, in the version that is stored."""
    if kind.key(thing) != key:
        text = f"the name of the object ({kind.key(thing)[1]}) does not match the name on the URL ({key[1]})"
        raise errors.bad_request(text)
    metadata = thing["metadata"]
    if metadata.get("resourceVersion") not in (None, "", "0", str(before.revision)):
        raise errors.modified(kind, key[1])
    if metadata.get("uid") not in (None, "", before.object["metadata"]["uid"]):
        raise errors.conflict(kind, key[1], f"Precondition failed: UID in precondition: {metadata['uid']}")


def _check_preconditions(kind: Kind, stored: Stored, wanted: Object) -> None:
    metadata = stored.object["metadata"]
    for label, field in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        if wanted.get(field) not in (None, metadata[field]):
            why = f"Precondition failed: {label} in precondition: {wanted[field]}, {label} in object meta: "
            raise errors.conflict(kind, metadata["name"], why + metadata[field])
