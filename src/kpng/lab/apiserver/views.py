"""The forms in which objects go out: as they are, as a Table, or their metadata only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.columns import COLUMNS, Column
from kpng.lab.apiserver.registry import Kind, Object
from kpng.lab.apiserver.storage import Stored

_encode = msgspec.json.Encoder().encode
_META = "meta.k8s.io/v1"


class View:
    """Objects as they are. A view belongs to one request: a watch's Table has its header only once."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def item(self, stored: Stored) -> bytes:
        return stored.encoded

    def list(self, items: Sequence[Stored], metadata: Object) -> bytes:
        head = {"kind": f"{self.kind.name}List", "apiVersion": self.kind.api_version, "metadata": metadata}
        return _join_items(head, [self.item(stored) for stored in items])

    def event(self, change: str, stored: Stored) -> bytes:
        return b'{"type":"%s","object":%s}\n' % (change.encode(), self.item(stored))

    def bookmark(self, metadata: Object) -> bytes:
        thing: Object = {"kind": self.kind.name, "apiVersion": self.kind.api_version, "metadata": metadata}
        if self.kind.name == "EndpointSlice":
            # The real server encodes an empty EndpointSlice, whose lists have no omitempty.
            thing |= {"addressType": "", "endpoints": None, "ports": None}
        return _encode({"type": "BOOKMARK", "object": thing}) + b"\n"


class MetadataView(View):
    """PartialObjectMetadata: metadata only."""

    def item(self, stored: Stored) -> bytes:
        return _encode(_partial(stored))

    def list(self, items: Sequence[Stored], metadata: Object) -> bytes:
        head = {"kind": "PartialObjectMetadataList", "apiVersion": _META, "metadata": metadata}
        return _join_items(head, [self.item(stored) for stored in items])

    def bookmark(self, metadata: Object) -> bytes:
        thing = {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": metadata}
        return _encode({"type": "BOOKMARK", "object": thing}) + b"\n"


class TableView(View):
    """A Table, as kubectl asks for; ``include`` is Metadata, Object or None (the query's includeObject)."""

    def __init__(self, kind: Kind, include: str) -> None:
        super().__init__(kind)
        self.include = include
        self._columns = COLUMNS[kind]
        self._header_sent = False

    def item(self, stored: Stored) -> bytes:
        return self.list([stored], {"resourceVersion": str(stored.revision)})

    def list(self, items: Sequence[Stored], metadata: Object) -> bytes:
        return self._table([self._row(stored) for stored in items], metadata)

    def bookmark(self, metadata: Object) -> bytes:
        row = {"cells": ["" for _ in self._columns], "object": {"kind": self.kind.name, "metadata": metadata}}
        table = self._table([row], metadata)
        return b'{"type":"BOOKMARK","object":%s}\n' % table

    def _table(self, rows: Sequence[Object], metadata: Object) -> bytes:
        header = None if self._header_sent else [_definition(column) for column in self._columns]
        self._header_sent = True
        table = {"kind": "Table", "apiVersion": _META, "metadata": metadata, "columnDefinitions": header}
        return _encode(table | {"rows": rows})

    def _row(self, stored: Stored) -> Object:
        row: Object = {"cells": [column.cell(stored.object) for column in self._columns]}
        if self.include == "Object":
            row["object"] = stored.object
        elif self.include != "None":
            row["object"] = _partial(stored)
        return row


def _definition(column: Column) -> Object:
    name_format = "name" if column.name == "Name" else ""
    priority = 1 if column.wide else 0
    return {
        "name": column.name,
        "type": column.type,
        "format": name_format,
        "description": "",
        "priority": priority,
    }


def _partial(stored: Stored) -> Object:
    metadata = stored.object["metadata"]
    return {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": metadata}


def _join_items(head: Object, items: Sequence[bytes]) -> bytes:
    return b'%s,"items":[%s]}' % (_encode(head)[:-1], b",".join(items))


def choose_view(accept: str, kind: Kind, include: str) -> View:
    """The view for an Accept header: its first entry this server can serve. Raises 406."""
    for media_type, parameters in media_types(accept):
        if media_type not in ("application/json", "application/*", "*/*"):
            continue
        form = parameters.get("as", "")
        if form and (parameters.get("g"), parameters.get("v")) != ("meta.k8s.io", "v1"):
            continue
        match form:
            case "":
                return View(kind)
            case "Table":
                return TableView(kind, include)
            case "PartialObjectMetadata" | "PartialObjectMetadataList":
                return MetadataView(kind)
    raise errors.not_acceptable()


def media_types(accept: str) -> list[tuple[str, dict[str, Any]]]:
    """The entries of an Accept header, best first, each with its parameters."""
    entries = []
    for entry in (accept or "*/*").split(","):
        name, *parts = (part.strip() for part in entry.split(";"))
        entries.append((name.lower(), dict(part.partition("=")[::2] for part in parts)))
    entries.sort(key=lambda found: -_quality(found[1].get("q", "1")))
    return entries


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
