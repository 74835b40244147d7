"""kpng's own words for Services, endpoints and Nodes: plain immutable types and their checks, no I/O."""

from .addresses import (
    FAMILIES,
    Family,
    IPSet,
    check_endpoint_address,
    check_service_address,
    family_of,
    parse_address,
    parse_cidr,
)
from .changes import ChangeSet, LocalService, ServiceChange
from .endpoint import (
    Endpoint,
    EndpointInfo,
    EndpointPort,
    EndpointSource,
    Scopes,
    match_port,
    protocols_of,
    resolve_port,
)
from .errors import InvalidObjectError, Problem, UserError
from .names import check_name, check_port_name, check_service_type, check_zone, is_name, quoted
from .node import ZONE_LABEL, LocalNode, Node
from .problems import ProblemLog
from .service import PortMapping, Protocol, Service, ServiceKey
from .settings import PRIMARY, DetectLocalMode, of_family

__all__ = [
    "FAMILIES",
    "PRIMARY",
    "ZONE_LABEL",
    "ChangeSet",
    "DetectLocalMode",
    "Endpoint",
    "EndpointInfo",
    "EndpointPort",
    "EndpointSource",
    "Family",
    "IPSet",
    "InvalidObjectError",
    "LocalNode",
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
    "check_name",
    "check_port_name",
    "check_service_address",
    "check_service_type",
    "check_zone",
    "family_of",
    "is_name",
    "match_port",
    "of_family",
    "parse_address",
    "parse_cidr",
    "protocols_of",
    "quoted",
    "resolve_port",
]
