"""Takes in what a reflector hears about one kind: decoded, converted and put into the store, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from kpng.model import Node, Problem, ProblemLog, Service, ServiceKey
from kpng.store import Kind, Store, Transaction

from . import objects
from .convert import Converter, NamedSource, Outcome
from .decode import DecodeError, decode_json, metadata_of
from .objects import Metadata, Object
from .problems import ProblemScope

T = TypeVar("T", bound=Object)
V = TypeVar("V")

Identity = tuple[str, str]
"""(namespace, name); the namespace of what has none is ""."""
_NAMESPACED = (Kind.SERVICES, Kind.ENDPOINTS)


class Intake(Generic[T, V]):
    """Stages objects of one kind until they are committed, in one transaction each time.

    ``apply`` writes one converted object (None: it is gone, or nothing to kpng) into a transaction.
    """

    def __init__(
        self,
        store: Store,
        kind: Kind,
        cls: type[T],
        convert: Callable[[T], Outcome[V]],
        apply: Callable[[Transaction, Identity, V | None], None],
        problems: ProblemLog,
        origin: str,
    ) -> None:
        self._store = store
        self._kind = kind
        self._name = cls.__name__
        self._decoder = msgspec.json.Decoder(cls)
        self._convert = convert
        self._apply = apply
        self._problems = ProblemScope(problems)
        self._origin = origin
        self._staged: dict[Identity, Outcome[V] | None] = {}
        """None: it is gone."""

    def set(self, raw: msgspec.Raw) -> str:
        """Stage an object that is new or different; returns its resourceVersion."""
        try:
            kube = decode_json(self._decoder, self._name, raw)
        except DecodeError as error:
            return self._stage(metadata_of(raw), self._refuse(error))
        return self._stage(kube.metadata, self._convert(kube))

    def delete(self, raw: msgspec.Raw) -> str:
        """Stage that an object is gone; returns its last resourceVersion."""
        return self._stage(metadata_of(raw), None)

    def _stage(self, metadata: Metadata, outcome: Outcome[V] | None) -> str:
        self._staged[metadata.namespace or "", metadata.name or "?"] = outcome
        return metadata.resource_version or ""

    def _refuse(self, error: DecodeError) -> Outcome[V]:
        problem = Problem(error.subject, error.field, error.message, self._origin)
        return Outcome(error.subject, None, [problem])

    def discard(self) -> None:
        """Drop what is staged."""
        self._staged.clear()

    def commit(self, *, replace: bool) -> None:
        """Write what is staged. ``replace``: it is everything of this kind, so the rest is gone."""
        staged, self._staged = self._staged, {}
        with self._store.transaction() as tx:
            if replace:
                tx.replace(self._kind)
            for identity, outcome in staged.items():
                self._apply(tx, identity, outcome.value if outcome else None)
        self._report(staged, replace)

    def _report(self, staged: dict[Identity, Outcome[V] | None], replace: bool) -> None:
        bad = {outcome.subject: outcome.problems for outcome in staged.values() if outcome and outcome.problems}
        if not bad and not self._problems:
            return  # as nearly always
        for identity, outcome in staged.items():
            subject = outcome.subject if outcome else self._subject(identity)
            self._problems.report(subject, bad.get(subject, ()))
        if replace:
            self._problems.forget_all_but(bad)

    def _subject(self, identity: Identity) -> str:
        namespace, name = identity
        return f"{self._name} {namespace}/{name}" if self._kind in _NAMESPACED else f"{self._name} {name}"


def service_intake(store: Store, converter: Converter, problems: ProblemLog) -> Intake[objects.Service, Service]:
    """The intake for Services."""
    kind, origin = Kind.SERVICES, converter.origin
    return Intake(store, kind, objects.Service, converter.service, _apply_service, problems, origin)


def slice_intake(
    store: Store, converter: Converter, problems: ProblemLog
) -> Intake[objects.EndpointSlice, NamedSource]:
    """The intake for EndpointSlices."""
    kind, origin = Kind.ENDPOINTS, converter.origin
    return Intake(store, kind, objects.EndpointSlice, converter.slice, _apply_slice, problems, origin)


def node_intake(store: Store, converter: Converter, problems: ProblemLog) -> Intake[objects.Node, Node]:
    """The intake for Nodes."""
    return Intake(store, Kind.NODES, objects.Node, converter.node, _apply_node, problems, converter.origin)


def service_cidr_intake(
    store: Store, converter: Converter, problems: ProblemLog
) -> Intake[objects.ServiceCIDR, tuple[str, ...]]:
    """The intake for ServiceCIDRs."""
    kind, origin = Kind.SERVICE_CIDRS, converter.origin
    convert = converter.service_cidr
    return Intake(store, kind, objects.ServiceCIDR, convert, _apply_service_cidr, problems, origin)


def _apply_service(tx: Transaction, identity: Identity, service: Service | None) -> None:
    if service is None:
        tx.delete_service(ServiceKey(*identity))
    else:
        tx.set_service(service)


def _apply_slice(tx: Transaction, identity: Identity, named: NamedSource | None) -> None:
    if named is None:
        tx.delete_source(*identity)
    else:
        tx.set_source(named.name, named.source.service, named.source.endpoints)


def _apply_node(tx: Transaction, identity: Identity, node: Node | None) -> None:
    if node is None:
        tx.delete_node(identity[1])
    else:
        tx.set_node(node)


def _apply_service_cidr(tx: Transaction, identity: Identity, cidrs: tuple[str, ...] | None) -> None:
    if cidrs is None:
        tx.delete_service_cidrs(identity[1])
    else:
        tx.set_service_cidrs(identity[1], cidrs)
