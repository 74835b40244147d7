"""``kpng proxy``: in place of kube-proxy, with its command line and its configuration file."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import click

import kpng
from kpng.backends.nft import NftBackend
from kpng.model import UserError
from kpng.ops import configure_logging
from kpng.proxyconfig import (
    KubeProxyConfiguration,
    apply_defaults,
    check,
    config_from_flags,
    flag_options,
    ignored_fields,
    overlay_flags,
    read_configuration,
    write_configuration,
)

from .leftovers import remove_kube_proxy
from .proxy_run import ProxyOptions, run_proxy
from .running import UserMistake, run_to_end

log = logging.getLogger(__name__)

_DEBUG_VERBOSITY = 4
_MODE = "nftables"

HELP = """Be kube-proxy: watch the API server and program this node's nftables.

Takes the command line of kube-proxy 1.36 and its KubeProxyConfiguration (v1alpha1), so that a DaemonSet changes
its image and its command only. What is not heeded is named in a warning. Needs root.

\b
  kpng proxy --config=/var/lib/kube-proxy/config.conf --hostname-override=$(NODE_NAME)
  kpng proxy --kubeconfig /etc/kube-proxy.conf --cluster-cidr 10.244.0.0/16
  kpng proxy --config=/var/lib/kube-proxy/config.conf --init-only    # in a privileged init container
  kpng proxy --cleanup
"""


@click.command(
    "proxy",
    params=list(flag_options()),
    help=HELP,
    context_settings={"token_normalize_func": lambda word: word.replace("_", "-")},
)
@click.pass_context
def proxy(ctx: click.Context, /, **values: Any) -> None:
    if values["version"] not in (None, "false"):
        click.echo(f"kpng {kpng.__version__}")
    elif values["cleanup"]:
        _clean_up()
    else:
        _start(ctx, values)


def _clean_up() -> None:
    try:
        click.echo(asyncio.run(NftBackend.cleanup()))
    except UserError as error:
        raise UserMistake(str(error)) from None
    for what in remove_kube_proxy():
        click.echo(f"removed kube-proxy's {what}")


def _start(ctx: click.Context, values: dict[str, Any]) -> None:
    path = values["config"] or ""
    content = _read(path) if path else b""
    config, warnings = configuration(values, content)
    _configure_logging(ctx, config)
    for warning in [*warnings, *ignored_fields(config)]:
        log.warning("%s", warning)
    if values["write_config_to"]:
        _write(values["write_config_to"], config)
        return
    _check_mode(config)
    options = ProxyOptions(
        config=config,
        server=values["master"] or "",
        config_file=path,
        config_content=content,
        init_only=bool(values["init_only"]),
    )
    run_to_end(run_proxy(options))


def configuration(values: dict[str, Any], content: bytes) -> tuple[KubeProxyConfiguration, list[str]]:
    """The configuration that the flags, or the file's content and the flags that count beside it (U1), make; and
    what is to be told of it. Raises `kpng.UserError`."""
    warnings: list[str] = []
    if values["config"]:
        reading = read_configuration(content, values["config"])
        config, warnings = reading.config, [*reading.warnings]
        if ignored := overlay_flags(config, values):
            warnings.append(f"not heeded beside --config: {', '.join(ignored)}")
    else:
        config = config_from_flags(values)
    check(apply_defaults(config), values["config"] or "flags")
    return config, warnings


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from None


def _write(path: str, config: KubeProxyConfiguration) -> None:
    try:
        Path(path).write_text(write_configuration(config))
    except OSError as error:
        raise UserError(f"--write-config-to {path}: {error.strerror}") from None
    log.info("wrote the configuration to %s", path)


def _check_mode(config: KubeProxyConfiguration) -> None:
    if config.mode not in ("", _MODE):
        raise UserError(f"mode {config.mode}: kpng proxy has {_MODE} only; set that, or leave the mode out")


def _configure_logging(ctx: click.Context, config: KubeProxyConfiguration) -> None:
    """What the configuration says beyond ``kpng --log-level ... --log-format ...``."""
    outer = ctx.parent.params if ctx.parent else {}
    level = "debug" if config.logging.verbosity >= _DEBUG_VERBOSITY else outer.get("log_level", "info")
    style = "json" if config.logging.format == "json" else outer.get("log_format", "text")
    configure_logging(level, style)
