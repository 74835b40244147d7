"""For people who write backends (and for our own tests): state in a line, and a backend that only remembers."""

from .builders import endpoint, endpoint_info, key, local_service, port, ports, service
from .changes import change_set, full_state
from .recording import RecordingBackend

__all__ = [
    "RecordingBackend",
    "change_set",
    "endpoint",
    "endpoint_info",
    "full_state",
    "key",
    "local_service",
    "port",
    "ports",
    "service",
]
