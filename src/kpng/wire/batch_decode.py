"""Batches on their way in: bytes -> deltas, not yet checked (`batch_check`)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import msgspec
from google.protobuf.message import DecodeError
from msgspec.structs import force_setattr

from kpng.model import EndpointPort

from .batch import ServiceDelta
from .proto import localv1_pb2 as localv1

MAX_BYTES = 8 * 1024 * 1024
"""Of one batch's services, decompressed: some thirty times what a batch usually has."""

_decoder = msgspec.msgpack.Decoder(list[ServiceDelta])


class BatchError(ValueError):
    """What came is no batch, or none that can be read here."""


def decode_batch(message: bytes) -> localv1.Batch:
    """Raises `BatchError`."""
    try:
        return localv1.Batch.FromString(message)
    except DecodeError:
        raise BatchError("something that is no localv1.Batch") from None


def decode_services(batch: localv1.Batch) -> list[ServiceDelta]:
    """The batch's deltas, as they were sent; see `surely_good` of `batch_check`. Raises `BatchError`."""
    if not batch.Services:
        return []
    try:
        deltas = _decoder.decode(_decompressed(batch))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BatchError(f"services that cannot be read: {error}") from None
    _share_ports(deltas)
    return deltas


def _decompressed(batch: localv1.Batch) -> bytes:
    if batch.Compression == localv1.Uncompressed:
        return batch.Services
    if batch.Compression != localv1.Zlib:
        raise BatchError(f"an unknown compression ({batch.Compression})")
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(batch.Services, MAX_BYTES)
    except zlib.error as error:
        raise BatchError(f"services that cannot be decompressed: {error}") from None
    if not stream.eof:
        raise BatchError(f"services cut off, or of more than {MAX_BYTES} bytes")
    return data


def _share_ports(deltas: Iterable[ServiceDelta]) -> None:
    """Equal ports of endpoints become one object: they are the same on all endpoints of most services, and with
    them goes a third of what an endpoint takes. The structs are fresh, so that nobody sees them change."""
    for delta in deltas:
        known: dict[tuple[EndpointPort, ...], tuple[EndpointPort, ...]] = {}
        last: tuple[EndpointPort, ...] = ()
        for endpoint in delta.endpoints.values():
            if endpoint is None or endpoint.ports is last:
                continue
            ports = endpoint.ports
            if ports != last:
                last = known.setdefault(ports, ports)
            force_setattr(endpoint, "ports", last)
