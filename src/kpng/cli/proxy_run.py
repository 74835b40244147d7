"""The parts of ``kpng proxy``, put together and run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from msgspec import Struct

from kpng.backends import run_backend
from kpng.health import HealthState, metrics_handler
from kpng.host.conntrack_limits import (
    ConntrackLimits,
    apply_conntrack_limits,
    failures,
    set_oom_score_adj,
)
from kpng.host.sysctl import Outcome, Setting
from kpng.kube.access import AccessOptions
from kpng.kube.convert import Filters
from kpng.kube.source import KubeOptions, KubeSource
from kpng.localize import Auditor, change_sets
from kpng.model import IPSet, ProblemLog
from kpng.proxyconfig import EXTERNAL_IPS_GATE, KubeProxyConfiguration, configuration_data, family_warnings
from kpng.store import Store

from .config_watch import until_changed
from .health import health_check_servers, serve_at, serving_health
from .proxy_backend import ProxyBackend, backend_options, node_port_addresses
from .proxy_node import proxy_node_name, wait_for_node

log = logging.getLogger(__name__)

MODE = "nftables"


class ProxyOptions(Struct, frozen=True):
    """``config`` has its defaults; ``config_file`` is "" where there is none, ``config_content`` what was read."""

    config: KubeProxyConfiguration
    server: str = ""
    config_file: str = ""
    config_content: bytes = b""
    init_only: bool = False


async def run_proxy(options: ProxyOptions) -> int:
    """Run until cancelled; with ``init_only`` until the machine is prepared. Returns the exit code."""
    config = options.config
    name = proxy_node_name(config.hostname_override)
    store, problems = Store(), ProblemLog()
    source = KubeSource(kube_options(options, name), problems)
    _tell([set_oom_score_adj(config.oom_score_adj or 0)])
    async with asyncio.TaskGroup() as group:
        background = [group.create_task(source.run(store))]
        if options.config_file and not options.init_only:
            background.append(group.create_task(until_changed(options.config_file, options.config_content)))
        node = await wait_for_node(store, name, needs_pod_cidrs=config.detect_local_mode == "NodeCIDR")
        failed = _tell(apply_conntrack_limits(conntrack_limits(config)))
        if options.init_only:
            log.info("the machine is prepared, and --init-only was given: done")
        else:
            addresses = node.addresses if node else IPSet()
            log.info(
                "proxy of Node %s (%s), mode %s", name, ", ".join(addresses.all()) or "addresses unknown", MODE
            )
            for warning in family_warnings(config, addresses):
                log.warning("%s", warning)
            background += [group.create_task(part) for part in _parts(config, store, problems, name)]
            await asyncio.wait(background, return_when=asyncio.FIRST_COMPLETED)
        for task in background:
            task.cancel()
    return int(options.init_only and failed)


def kube_options(options: ProxyOptions, name: str) -> KubeOptions:
    """How the API server is reached, and what is asked of it: of the Nodes only this one."""
    config = options.config
    access = AccessOptions(config.client_connection.kubeconfig, options.server)
    return KubeOptions(access, Filters(node=name, external_ips=config.feature_gates.get(EXTERNAL_IPS_GATE, True)))


def _parts(
    config: KubeProxyConfiguration, store: Store, problems: ProblemLog, name: str
) -> list[Coroutine[Any, Any, None]]:
    """What runs beside the source."""
    state = HealthState(2 * config.nftables.sync_period.seconds)
    servers = health_check_servers(state, node_port_addresses(config))
    backend = ProxyBackend(state, servers, config.bind_address, **backend_options(config))
    hard_fail = config.bind_address_hard_fail
    metrics = metrics_handler(MODE, configuration_data(config))
    return [
        Auditor(store, problems).run(),
        run_backend(backend, change_sets(store, name)),
        *serving_health(state, servers, config.healthz_bind_address, hard_fail=hard_fail),
        serve_at("mode of the proxy", metrics, config.metrics_bind_address, hard_fail=hard_fail),
    ]


def conntrack_limits(config: KubeProxyConfiguration) -> ConntrackLimits:
    wanted = config.conntrack
    return ConntrackLimits(
        max_per_core=wanted.max_per_core or 0,
        floor=wanted.min or 0,
        tcp_established=int(wanted.tcp_established_timeout.seconds) if wanted.tcp_established_timeout else 0,
        tcp_close_wait=int(wanted.tcp_close_wait_timeout.seconds) if wanted.tcp_close_wait_timeout else 0,
        tcp_be_liberal=wanted.tcp_be_liberal,
        udp=int(wanted.udp_timeout.seconds),
        udp_stream=int(wanted.udp_stream_timeout.seconds),
    )


def _tell(settings: list[Setting]) -> bool:
    """Whether any could not be set: a reason to say so, not to stop serving."""
    for setting in settings:
        level = {Outcome.SET: logging.INFO, Outcome.FAILED: logging.WARNING}.get(setting.outcome, logging.DEBUG)
        log.log(level, "%s", setting)
    return bool(failures(settings))
