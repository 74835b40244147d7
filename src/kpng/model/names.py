"""Names, as Kubernetes allows them. Names become keys, paths and lines of output: nothing odd gets in.

Each check returns the name, or raises `InvalidObjectError`; what a real API server accepts, it accepts.
"""

from __future__ import annotations

import re

from .errors import InvalidObjectError

# looking behind is twice as fast as a group for all but the last character, and endpoints are many
_LABEL = re.compile(r"[a-z0-9][-a-z0-9]{0,62}(?<!-)")
_SUBDOMAIN = re.compile(r"[a-z0-9][-a-z0-9.]{0,252}(?<![-.])")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}(?<![-_.])")
_TYPE = re.compile(r"[A-Za-z]{1,63}")
_SHOWN = 80


def quoted(text: str) -> str:
    """A text from outside as messages show it: quoted, escaped, and not at any length."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def is_name(text: str) -> bool:
    """Whether `check_name` accepts it."""
    return _SUBDOMAIN.fullmatch(text) is not None


def check_name(text: str, field: str = "") -> str:
    """An object's name: an RFC 1123 subdomain (apimachinery NameIsDNSSubdomain). Also Nodes, Pods and hosts."""
    if _SUBDOMAIN.fullmatch(text):
        return text
    raise _refusal(text, field, "a Kubernetes name")


def check_port_name(text: str, field: str = "") -> str:
    """The name of a port of a Service or EndpointSlice: an RFC 1123 label. The names of containers' ports, which
    a target port may be, are labels too (IANA_SVC_NAME is narrower)."""
    if _LABEL.fullmatch(text):
        return text
    raise _refusal(text, field, "a port name")


def check_zone(text: str, field: str = "") -> str:
    """A zone: the value of a Node's label (apimachinery IsValidLabelValue)."""
    if _LABEL_VALUE.fullmatch(text):
        return text
    raise _refusal(text, field, "a zone")


def check_service_type(text: str, field: str = "") -> str:
    """The type of a Service; also one that Kubernetes has yet to invent."""
    if _TYPE.fullmatch(text):
        return text
    raise _refusal(text, field, "a type of Service")


def _refusal(text: str, field: str, what: str) -> InvalidObjectError:
    return InvalidObjectError(field, f"{quoted(text)} is not {what}")
