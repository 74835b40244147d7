"""kpng's own words for Services, endpoints and Nodes: plain immutable types and their checks, no I/O."""

from .addresses import (
    FAMILIES,
    Family,
    IPSet,
    check_endpoint_address,
    family_of,
    parse_address,
    parse_cidr,
)
from .changes import ChangeSet, LocalService, ServiceChange
from .endpoint import Endpoint, EndpointInfo, EndpointPort, EndpointSource, Scopes, match_port, resolve_port
from .errors import InvalidObjectError, Problem, UserError
from .node import ZONE_LABEL, Node
from .problems import ProblemLog
from .service import PortMapping, Protocol, Service, ServiceKey

__all__ = [
    "FAMILIES",
    "ZONE_LABEL",
    "ChangeSet",
    "Endpoint",
    "EndpointInfo",
    "EndpointPort",
    "EndpointSource",
    "Family",
    "IPSet",
    "InvalidObjectError",
    "LocalService",
    "Node",
    "PortMapping",
    "Problem",
    "ProblemLog",
    "Protocol",
    "Scopes",
    "Service",
    "ServiceChange",
    "ServiceKey",
    "UserError",
    "check_endpoint_address",
    "family_of",
    "match_port",
    "parse_address",
    "parse_cidr",
    "resolve_port",
]
