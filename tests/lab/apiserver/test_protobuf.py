"""Protobuf bodies, written by the real protobuf library from a hand-made descriptor."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from kpng.lab.apiserver import ApiError
from kpng.lab.apiserver.protobuf import MEDIA_TYPE, decode_object

Field = descriptor_pb2.FieldDescriptorProto


def _descriptors() -> descriptor_pb2.FileDescriptorProto:
    """Namespace and its envelope, as the published files number them."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto2")

    def message(name: str, *fields: tuple[str, int, int, str, bool]) -> Any:
        made = file.message_type.add(name=name)
        for field, number, kind, type_name, repeated in fields:
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            made.field.add(name=field, number=number, type=kind, type_name=type_name or None, label=label)
        return made

    text, inner = Field.TYPE_STRING, Field.TYPE_MESSAGE
    message("TypeMeta", ("apiVersion", 1, text, "", False), ("kind", 2, text, "", False))
    message("Unknown", ("typeMeta", 1, inner, ".t.TypeMeta", False), ("raw", 2, Field.TYPE_BYTES, "", False))
    meta = message(
        "ObjectMeta",
        ("name", 1, text, "", False),
        ("generation", 7, Field.TYPE_INT64, "", False),
        ("labels", 11, inner, ".t.ObjectMeta.LabelsEntry", True),
        ("finalizers", 14, text, "", True),
    )
    entry = meta.nested_type.add(name="LabelsEntry")
    entry.options.map_entry = True
    for number, name in ((1, "key"), (2, "value")):
        entry.field.add(name=name, number=number, type=text, label=Field.LABEL_OPTIONAL)
    message("Namespace", ("metadata", 1, inner, ".t.ObjectMeta", False))
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_descriptors())


def new(message: str, /, **fields: Any) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"t.{message}"))(**fields)


def envelope(kind: str, raw: bytes) -> bytes:
    body: bytes = new("Unknown", typeMeta=new("TypeMeta", apiVersion="v1", kind=kind), raw=raw).SerializeToString()
    return b"k8s\0" + body


def namespace(**metadata: Any) -> bytes:
    raw: bytes = new("Namespace", metadata=new("ObjectMeta", **metadata)).SerializeToString()
    return envelope("Namespace", raw)


TEXTS = st.text(min_size=1, max_size=200)


@given(TEXTS, st.dictionaries(TEXTS, st.text()), st.lists(TEXTS), st.integers(-(2**63), 2**63 - 1))
def test_what_the_library_writes_is_read(name: str, labels: Any, finalizers: Any, generation: int) -> None:
    found = decode_object(namespace(name=name, labels=labels, finalizers=finalizers, generation=generation))
    metadata = found.pop("metadata")
    assert found == {"apiVersion": "v1", "kind": "Namespace"}
    assert metadata.pop("name") == name
    assert (metadata.get("labels", {}), metadata.get("finalizers", [])) == (labels, finalizers)


@given(st.binary(max_size=40))
def test_noise_is_refused_or_read_but_never_an_accident(noise: bytes) -> None:
    codes = set()
    for body in (noise, b"k8s\0" + noise, envelope("Namespace", noise)):
        try:
            decode_object(body)
        except ApiError as error:
            codes.add(error.code)
    assert codes <= {400, 415}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{}", 400),
        (envelope("Pod", b""), 415),
        (envelope("Namespace", b"\x0a\x7f"), 400),
        (envelope("Namespace", b"\x0d\x00"), 400),
        (envelope("Namespace", b"\x0a"), 400),
        (namespace(name="shop"), 201),
    ],
)
async def test_over_http(api: Any, body: bytes, code: int) -> None:
    answered, _ = await api("POST", "/api/v1/namespaces", body, kind=MEDIA_TYPE)
    assert answered == code
