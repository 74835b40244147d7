"""State files: the global state as YAML, in Go kpng's schema."""

from .decode import decode_state, is_state
from .encode import encode_state
from .state import State

__all__ = ["State", "decode_state", "encode_state", "is_state"]
