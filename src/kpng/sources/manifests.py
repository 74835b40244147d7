"""Kubernetes manifests, and state files, as one content: what a file says, and what is wrong with it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from msgspec import Struct, field

from kpng.kube import objects
from kpng.kube.convert import Converter, Filters, NamedSource, Outcome
from kpng.kube.decode import DecodeError, decode_plain
from kpng.model import Node, Problem, Service
from kpng.wire.statefile import State, decode_state, is_state

from .documents import Document, read_documents

log = logging.getLogger(__name__)

T = TypeVar("T")

_VERSIONS = {
    "Service": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Node": "v1",
    "ServiceCIDR": "networking.k8s.io/v1",
}
_CORE_KINDS = re.compile(
    "Binding|ComponentStatus|ConfigMap|Endpoints|Event|LimitRange|Namespace|PersistentVolume(Claim)?|Pod|PodTemplate"
    "|ReplicationController|ResourceQuota|Secret|ServiceAccount"
)
_BUILT_IN_GROUPS = frozenset(("apps", "autoscaling", "batch", "extensions", "policy"))


class Content(Struct):
    """What one file holds."""

    state: State = field(default_factory=State)
    problems: list[Problem] = field(default_factory=list)


def read_content(content: bytes, origin: str, filters: Filters) -> Content:
    """Read a state file or manifests, whichever it is. Raises `UnreadableError`."""
    documents = list(read_documents(content))
    if documents and is_state(documents[0][1]):
        return _read_state(documents, origin)
    reader = _ManifestReader(origin, filters)
    for line, document in documents:
        reader.document(line, document)
    return Content(reader.state, reader.problems)


def merge(contents: Iterable[tuple[str, Content]]) -> Content:
    """The contents of several files as one; of what is there twice, the first counts."""
    merged = Content()
    owners: dict[tuple[str, object], str] = {}
    for path, content in contents:
        merged.problems += content.problems
        for kind, key, value, target in _entries(content.state, merged.state):
            owner = owners.setdefault((kind, key), path)
            if owner == path:
                target[key] = value
            else:
                subject = f"{kind} {'/'.join(key) if isinstance(key, tuple) else key}"
                merged.problems.append(Problem(subject, "", f"is already in {owner}, which counts", path))
    return merged


def _entries(state: State, target: State) -> Iterator[tuple[str, Any, Any, dict[Any, Any]]]:
    for service_key, service in state.services.items():
        yield "Service", service_key, service, target.services
    for source_key, source in state.sources.items():
        yield "EndpointSlice", source_key, source, target.sources
    for name, node in state.nodes.items():
        yield "Node", name, node, target.nodes
    for name, cidrs in state.service_cidrs.items():
        yield "ServiceCIDR", name, cidrs, target.service_cidrs


def _read_state(documents: list[Document], origin: str) -> Content:
    state, problems = decode_state(documents[0][1], origin)
    for line, _ in documents[1:]:
        problems.append(
            Problem("state file", "", "a state file is one document; this one is not read", f"{origin}:{line}")
        )
    return Content(state, problems)


class _ManifestReader:
    """Goes through a file's documents."""

    def __init__(self, origin: str, filters: Filters) -> None:
        self.state = State()
        self.problems: list[Problem] = []
        self._origin = origin
        self._converter = Converter(filters, origin)

    def document(self, line: int, data: object) -> None:
        """One document: an object, or a list of them."""
        if isinstance(data, dict) and str(data.get("kind", "")).endswith("List") and "items" in data:
            self._list(line, data)
        else:
            self._object(line, data, "", "")

    def _list(self, line: int, data: dict[str, object]) -> None:
        """``List``, ``ServiceList``, ...; the items of the latter need not say what they are."""
        items = data["items"]
        kind, version = str(data["kind"]).removesuffix("List"), str(data.get("apiVersion", ""))
        if items is not None and not isinstance(items, list):
            self._problem(line, f"{data['kind']}", "items", "not a list")
            return
        for item in items or ():
            self._object(line, item, kind, version if kind else "")

    def _object(self, line: int, data: object, kind: str, version: str) -> None:
        if not isinstance(data, dict):
            self._problem(line, "document", "", "not a Kubernetes object")
            return
        kind, version = str(data.get("kind") or kind), str(data.get("apiVersion") or version)
        if not kind:
            self._problem(line, "document", "kind", "not set; not a Kubernetes object")
        elif kind in _VERSIONS:
            self._known(line, kind, version, data)
        elif _is_other_kind(kind, version):
            log.debug("%s:%d: %s %s is of no interest", self._origin, line, version, kind)
        else:
            self._problem(line, "document", "kind", f"{kind[:80]!r} of apiVersion {version[:80]!r} is not known")

    def _known(self, line: int, kind: str, version: str, data: dict[str, object]) -> None:
        if version and version != _VERSIONS[kind]:
            if _is_other_kind(kind, version):  # for example serving.knative.dev/v1, kind Service
                return
            message = f"{version[:80]!r} is not supported for {kind}; use {_VERSIONS[kind]}"
            self._problem(line, f"document ({kind})", "apiVersion", message)
            return
        try:
            self._convert(kind, data)
        except DecodeError as error:
            self.problems.append(Problem(error.subject, error.field, error.message, self._origin))

    def _convert(self, kind: str, data: object) -> None:
        if kind == "Service":
            self._service(self._converter.service(decode_plain(kind, objects.Service, data)))
        elif kind == "EndpointSlice":
            self._slice(self._converter.slice(decode_plain(kind, objects.EndpointSlice, data)))
        elif kind == "Node":
            self._node(self._converter.node(decode_plain(kind, objects.Node, data)))
        else:
            kube = decode_plain(kind, objects.ServiceCIDR, data)
            self._service_cidr(kube.metadata.name or "", self._converter.service_cidr(kube))

    def _service(self, outcome: Outcome[Service]) -> None:
        service = self._checked(outcome)
        if service is not None:
            self._set(self.state.services, service.key, service, outcome.subject)

    def _slice(self, outcome: Outcome[NamedSource]) -> None:
        named = self._checked(outcome)
        if named is not None:
            key = (named.source.service.namespace, named.name)
            self._set(self.state.sources, key, named.source, outcome.subject)

    def _node(self, outcome: Outcome[Node]) -> None:
        node = self._checked(outcome)
        if node is not None:
            self._set(self.state.nodes, node.name, node, outcome.subject)

    def _service_cidr(self, name: str, outcome: Outcome[tuple[str, ...]]) -> None:
        cidrs = self._checked(outcome)
        if cidrs is not None:
            self._set(self.state.service_cidrs, name, cidrs, outcome.subject)

    def _checked(self, outcome: Outcome[T]) -> T | None:
        self.problems += outcome.problems
        return outcome.value

    def _set(self, target: dict[Any, Any], key: object, value: object, subject: str) -> None:
        if key in target:
            self.problems.append(Problem(subject, "", "is there twice; the first one counts", self._origin))
        else:
            target[key] = value

    def _problem(self, line: int, subject: str, field: str, message: str) -> None:
        self.problems.append(Problem(subject, field, message, f"{self._origin}:{line}"))


def _is_other_kind(kind: str, version: str) -> bool:
    """Whether this is plausibly a kind that only does not concern us; the rest are slips of the pen."""
    group, slash, _ = version.rpartition("/")
    if not slash:
        return version == "v1" and _CORE_KINDS.fullmatch(kind) is not None
    return group in _BUILT_IN_GROUPS or ("." in group and group != "discovery.k8s.io")
