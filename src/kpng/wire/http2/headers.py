"""Header lists: to bytes without any state, from bytes with all the checks (RFC 9113, section 8.2; RFC 7541)."""

from __future__ import annotations

from collections.abc import Iterable

from hpack import Decoder, HPACKError, OversizedHeaderListError

from .errors import ErrorCode, Http2Error

HeaderList = list[tuple[bytes, bytes]]

_LITERAL = b"\x00"  # literal field without indexing, new name (RFC 7541, section 6.2.2)
_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_REQUEST = frozenset((b":method", b":scheme", b":path"))
_REQUEST_OR_AUTHORITY = _REQUEST | {b":authority"}
_FORBIDDEN = frozenset(b"\x00\r\n")


def encode_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block of literals only.

    It depends on no dynamic table, so a block that is always the same is made once for all connections, and blocks
    may be sent in another order than they were made.
    """
    return b"".join(_LITERAL + _string(name) + _string(value) for name, value in fields)


def _string(text: bytes) -> bytes:
    return _integer(len(text)) + text


def _integer(number: int) -> bytes:
    """An integer with a 7-bit prefix (RFC 7541, section 5.1)."""
    if number < 127:
        return bytes((number,))
    out, number = bytearray(b"\x7f"), number - 127
    while number >= 128:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class HeaderDecoder:
    """Decodes header blocks; the HPACK table is made when the first one comes."""

    __slots__ = ("_decoder", "_max_list_bytes")

    def __init__(self, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._decoder: Decoder | None = None

    def decode(self, block: bytes) -> HeaderList:
        """The fields in order. A failure ends the connection, as from here on the two tables would differ."""
        if self._decoder is None:
            self._decoder = Decoder(self._max_list_bytes)
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "header list is too large") from error
        except (HPACKError, UnicodeError, ValueError, IndexError) as error:
            raise Http2Error(ErrorCode.COMPRESSION_ERROR, f"header block cannot be decoded: {error}") from error


def fault_in(fields: HeaderList) -> str | None:
    """What makes any header list malformed (section 8.2), or None."""
    regular = False
    seen = set()
    for name, value in fields:
        if name.startswith(b":"):
            if regular or name in seen:
                return "pseudo-header repeated or after the others"
            seen.add(name)
            continue
        regular = True
        if not name or name != name.lower() or name in _HOP_BY_HOP:
            return f"forbidden header name {name!r}"
        if not _FORBIDDEN.isdisjoint(value) or not _FORBIDDEN.isdisjoint(name):
            return f"forbidden character in header {name!r}"
        if name == b"te" and value != b"trailers":
            return "te other than trailers"
    return None


def fault_in_request(fields: HeaderList) -> str | None:
    """What makes a request's header list malformed (section 8.3.1), or None."""
    pseudo = {name: value for name, value in fields if name.startswith(b":")}
    if _REQUEST - pseudo.keys() or pseudo.keys() - _REQUEST_OR_AUTHORITY:
        return "pseudo-headers missing or unknown"
    return fault_in(fields) or (None if pseudo[b":path"] else "empty path")


def fault_in_response(fields: HeaderList) -> str | None:
    """What makes a response's first header list malformed (section 8.3.2), or None."""
    pseudo = [name for name, _ in fields if name.startswith(b":")]
    return fault_in(fields) or (None if pseudo == [b":status"] else "pseudo-headers missing or unknown")


def fault_in_trailers(fields: HeaderList) -> str | None:
    """What makes trailers malformed (section 8.1), or None."""
    if any(name.startswith(b":") for name, _ in fields):
        return "pseudo-header in trailers"
    return fault_in(fields)
