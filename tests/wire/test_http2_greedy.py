"""Peers that keep to the protocol, and make us keep or do more than they are worth."""

from __future__ import annotations

import weakref

import pytest

from kpng.wire.http2 import Connection, ConnectionLimits, ErrorCode, Role, encode_block
from kpng.wire.http2 import frames as f
from kpng.wire.http2.sender import Sender

REQUEST = encode_block([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x")])


def a_server(client_settings: dict[int, int] | None = None) -> Connection:
    server = Connection(Role.SERVER, ConnectionLimits())
    server.receive(f.PREFACE + f.settings(client_settings or {}), 0.0)
    return server


def test_what_a_closed_stream_had_to_send_is_not_kept_for_a_window_that_never_opens() -> None:
    """A watcher that reads nothing, and watches anew again and again."""
    server = a_server({f.INITIAL_WINDOW_SIZE: 1 << 20})
    kept = []
    for stream_id in range(1, 41, 2):
        server.receive(f.headers(stream_id, REQUEST, False), 0.0)
        state = memoryview(bytes(f.DEFAULT_WINDOW + 1))
        kept.append(weakref.ref(state))
        server.send(stream_id, [state])
        del state
        server.take_output()
        server.receive(f.rst_stream(stream_id, ErrorCode.CANCEL), 0.0)
    server.take_output()
    assert server.stream_count == 0
    assert [reference for reference in kept if reference() is not None] == []


def test_a_stream_that_waits_goes_on_when_the_window_opens_though_another_was_closed() -> None:
    server = a_server({f.INITIAL_WINDOW_SIZE: 1 << 20})
    for stream_id in (1, 3):
        server.receive(f.headers(stream_id, REQUEST, False), 0.0)
        server.send(stream_id, [bytes(f.DEFAULT_WINDOW)])
    sent = b"".join(server.take_output(1 << 20))
    assert sent.count(bytes(1000)) * 1000 <= f.DEFAULT_WINDOW
    server.receive(f.rst_stream(1, ErrorCode.CANCEL) + f.window_update(0, f.DEFAULT_WINDOW), 0.0)
    server.take_output(1 << 20)
    assert not server.is_pending(3)


def test_a_frame_full_of_windows_costs_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    server = a_server()
    for stream_id in range(1, 201, 2):
        server.receive(f.headers(stream_id, REQUEST, False), 0.0)
    looked_at = 0
    schedule = Sender.schedule

    def counted(sender: Sender, stream: object) -> None:
        nonlocal looked_at
        looked_at += 1
        schedule(sender, stream)  # type: ignore[arg-type]

    monkeypatch.setattr(Sender, "schedule", counted)
    pairs = b"".join(f.settings({f.INITIAL_WINDOW_SIZE: size})[f.HEADER_BYTES :] for size in range(2700))
    server.receive(f.encode(f.SETTINGS, 0, 0, pairs), 0.0)
    assert looked_at == 100
    server.send(1, [bytes(5000)])
    assert len(b"".join(server.take_output())) < 3000, "the last one counts"
