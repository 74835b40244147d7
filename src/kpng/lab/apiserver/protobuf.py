"""Bodies in Kubernetes' protobuf: `kubectl create namespace` and `create service` send nothing else.

Only requests, and only the kinds below; everything is answered in JSON, which those clients accept. Field numbers
are those of the published .proto files (k8s.io/api/core/v1/generated.proto, apimachinery's meta/v1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.registry import Object

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"

Decoder = Callable[[Any], Any]
Fields = Mapping[int, tuple[str, Decoder]]


def decode_object(body: bytes) -> Object:
    """An object from its envelope (runtime.Unknown). Raises 400, and 415 for kinds without a table here."""
    if not body.startswith(_MAGIC):
        raise errors.bad_request("provided data does not appear to be a protobuf message, expected prefix k8s")
    try:
        envelope = _message(_ENVELOPE)(body[len(_MAGIC) :])
        meta = envelope.get("typeMeta", {})
        decoder = _KINDS.get((meta.get("apiVersion"), meta.get("kind")))
        if decoder is None:
            raise errors.unsupported_media_type(("application/json", "application/yaml"))
        thing: Object = meta | decoder(envelope.get("raw", b""))
    except (IndexError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise errors.bad_request(f"error decoding the protobuf body: {error}") from error
    return thing


def _wire_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The (number, value) pairs of a message: varints as int, length-delimited fields as bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        value, position = _varint(data, position)
        match tag & 7:
            case 0:
                yield tag >> 3, value
            case 2:
                if position + value > len(data):
                    raise ValueError("a field is cut off")
                yield tag >> 3, data[position : position + value]
                position += value
            case other:
                raise ValueError(f"unexpected wire type {other}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _text(value: bytes) -> str:
    return value.decode()


def _flag(value: int) -> bool:
    return bool(value)


def _number(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


class _Many:
    """Marks the decoder of a repeated field."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def __call__(self, value: Any) -> Any:
        return self.decoder(value)


def _map_entry(value: bytes) -> dict[str, str]:
    entry = {number: _text(content) for number, content in _wire_fields(value)}
    return {entry.get(1, ""): entry.get(2, "")}


def _message(fields: Fields) -> Decoder:
    """A decoder of messages with ``fields``. Empty values are left out, as omitempty does in JSON."""

    def decode(data: bytes) -> Object:
        result: Object = {}
        for number, raw in _wire_fields(data):
            if number not in fields:
                continue
            name, decoder = fields[number]
            value = decoder(raw)
            if isinstance(decoder, _Many):
                result.setdefault(name, []).append(value)
            elif decoder is _map_entry:
                result.setdefault(name, {}).update(value)
            elif value not in ("", 0, False, {}, b"", None):
                result[name] = value
        return result

    return decode


def _int_or_string(data: bytes) -> int | str:
    fields = dict(_wire_fields(data))
    return _text(fields.get(3, b"")) if fields.get(1) else _number(fields.get(2, 0))


_ENVELOPE: Fields = {
    1: ("typeMeta", _message({1: ("apiVersion", _text), 2: ("kind", _text)})),
    2: ("raw", bytes),
}
_METADATA = _message(
    {
        1: ("name", _text),
        2: ("generateName", _text),
        3: ("namespace", _text),
        5: ("uid", _text),
        6: ("resourceVersion", _text),
        11: ("labels", _map_entry),
        12: ("annotations", _map_entry),
        14: ("finalizers", _Many(_text)),
    }
)
_SERVICE_PORT = _message(
    {
        1: ("name", _text),
        2: ("protocol", _text),
        3: ("port", _number),
        4: ("targetPort", _int_or_string),
        5: ("nodePort", _number),
        6: ("appProtocol", _text),
    }
)
_CLIENT_IP = _message({1: ("timeoutSeconds", _number)})
_SERVICE_SPEC = _message(
    {
        1: ("ports", _Many(_SERVICE_PORT)),
        2: ("selector", _map_entry),
        3: ("clusterIP", _text),
        4: ("type", _text),
        5: ("externalIPs", _Many(_text)),
        7: ("sessionAffinity", _text),
        8: ("loadBalancerIP", _text),
        9: ("loadBalancerSourceRanges", _Many(_text)),
        10: ("externalName", _text),
        11: ("externalTrafficPolicy", _text),
        12: ("healthCheckNodePort", _number),
        13: ("publishNotReadyAddresses", _flag),
        14: ("sessionAffinityConfig", _message({1: ("clientIP", _CLIENT_IP)})),
        17: ("ipFamilyPolicy", _text),
        18: ("clusterIPs", _Many(_text)),
        19: ("ipFamilies", _Many(_text)),
        21: ("loadBalancerClass", _text),
        22: ("internalTrafficPolicy", _text),
        23: ("trafficDistribution", _text),
    }
)
_KINDS: Mapping[tuple[Any, Any], Decoder] = {
    ("v1", "Namespace"): _message({1: ("metadata", _METADATA)}),
    ("v1", "Service"): _message({1: ("metadata", _METADATA), 2: ("spec", _SERVICE_SPEC)}),
}
