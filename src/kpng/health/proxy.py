"""What the proxy says of itself: /healthz and /livez (semantics M), /healthz, /proxyMode and /configz (N1, N2)."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from .documents import proxy_document
from .server import Handler, answer, not_found
from .state import HealthState

_TEXT = "text/plain; charset=utf-8"
_CONFIG_GROUP = "kubeproxy.config.k8s.io"


def proxy_health_handler(state: HealthState) -> Handler:
    """For ``--healthz-bind-address``. /healthz also asks whether load balancers may use the node (KEP-3836)."""

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.path not in ("/healthz", "/livez"):
            return not_found()
        report = state.report()
        with_node = request.path == "/healthz"
        well = report.healthy and (report.node_eligible or not with_node)
        return answer(proxy_document(report, with_node=with_node), status=200 if well else 503)

    return handle


def metrics_handler(mode: str, configuration: Mapping[str, object]) -> Handler:
    """For ``--metrics-bind-address``. ``configuration`` is what is in force, as plain data (N2)."""
    pages = {
        "/healthz": ("ok", _TEXT),
        "/proxyMode": (mode, _TEXT),
        "/configz": (json.dumps({_CONFIG_GROUP: configuration}, separators=(",", ":")), "application/json"),
    }

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.path not in pages:
            return not_found()
        body, kind = pages[request.path]
        return answer(body, kind=kind)

    return handle
