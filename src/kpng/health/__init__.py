"""Health, as load balancers and kubelets ask for it: per Service, and of the proxy itself (semantics L, M, N)."""

from .addresses import MATCH_ALL, PRIMARY, listen_addresses
from .node_port_servers import HealthCheckServers
from .node_ports import HealthChecks, ready_local_endpoints
from .proxy import metrics_handler, proxy_health_handler
from .server import serve
from .state import HealthState

__all__ = [
    "MATCH_ALL",
    "PRIMARY",
    "HealthCheckServers",
    "HealthChecks",
    "HealthState",
    "listen_addresses",
    "metrics_handler",
    "proxy_health_handler",
    "ready_local_endpoints",
    "serve",
]
