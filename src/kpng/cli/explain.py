"""``kpng explain``: what happens to a connection at a node, and why?"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from kpng.backends.nft.options import click_options, parse_options
from kpng.explain import NodeState, Packet, Settings, document, parse_packet, text
from kpng.explain import explain as evaluate
from kpng.explain.packet import PROTOCOLS
from kpng.host.addresses import interface_addresses
from kpng.model import InvalidObjectError, UserError, parse_address

from .explain_state import Known, known_from_api, known_from_files
from .options import api_connection, api_options, cidrs, nearest_node_name
from .running import run_to_end

F = TypeVar("F", bound=Callable[..., Any])

_SETTINGS = (
    "detect_local_mode",
    "cluster_cidr",
    "pod_bridge_interface",
    "pod_interface_name_prefix",
    "masquerade_all",
    "nodeport_addresses",
)
"""The options of ``to-nft`` that decide what becomes of packets."""
_LISTENER = "localhost_nodeports"
"""Its option that makes a process listen, and no rule."""


def _addresses(_ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    try:
        return tuple(parse_address(word.strip()) for word in value.split(",") if word.strip())
    except InvalidObjectError as error:
        raise UserError(f"{option.opts[0]}: {error.message}") from None


def _backend_options(command: click.Command) -> click.Command:
    """The same as ``to-nft``'s, for they must say the same."""
    command.params += [option for option in click_options() if option.name in (*_SETTINGS, _LISTENER)]
    return command


@_backend_options
@click.command("explain")
@click.option("--from", "source", required=True, metavar="IP", help="Who sends.")
@click.option("--to", "target", required=True, metavar="IP[:PORT]", help="Where to; [IP]:PORT with IPv6.")
@click.option("--proto", type=click.Choice([*PROTOCOLS]), default="tcp", show_default=True, help="The protocol.")
@click.option("--in-interface", default="", metavar="NAME", help="The interface that the packet comes in by.")
@click.option(
    "--node",
    "--node-name",
    "node_name",
    metavar="NAME",
    help="At which node. [default: the host name, in lower case]",
)
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to tell."
)
@click.option(
    "--input",
    "-i",
    "path",
    type=click.Path(allow_dash=True),
    help="Take the state from files, as 'kpng file -i' does, instead of from an API.",
)
@api_options
@click.option(
    "--service-cidrs",
    callback=cidrs,
    metavar="CIDR[,CIDR]",
    help="With -i: where cluster IPs come from, beside any ServiceCIDR in the files.",
)
@click.option(
    "--local-ips",
    callback=_addresses,
    metavar="IP[,IP]",
    help="Addresses of the node beside those that the cluster knows. [default: this machine's, if it is the node]",
)
@click.pass_context
def explain(ctx: click.Context, /, output: str, **options: Any) -> None:
    """Tell what happens to the first packet of a connection at a node, and why.

    Whether it is forwarded, to which endpoints, with whose address, and why to these and not to others; or which
    rule rejects it, drops it or leaves it alone. Nothing is sent, and the kernel is not looked at: the answer comes
    from the state that backends are given and from the rules for Services. How the node's backend was started is
    said by the same options (--cluster-cidr and so on).

    \b
    kpng explain --from 10.1.1.7 --to 10.96.0.10:80                       a pod's connection, by the local API
    kpng explain --from 198.51.100.9 --to 192.0.2.10:30080 --node node-1  from outside, at that node
    kpng explain -i examples/manifests --node node-1 --cluster-cidr 10.1.0.0/16 --from 10.1.1.7 --to 10.96.0.10:80
    kpng explain --from fd00::7 --to [fd00:96::10]:53 --proto udp         IPv6
    kpng explain --from 10.1.1.7 --to 10.96.0.10 --proto icmp --output json
    """
    packet = parse_packet(options["source"], options["target"], options["proto"], options["in_interface"])
    settings = _settings(options)
    node = nearest_node_name(ctx, options["node_name"])
    _check_choice(ctx, options)

    async def answer() -> None:
        known = await _ask(options, node)
        state = NodeState(
            node=known.node,
            services=known.services,
            settings=settings,
            addresses=_own_addresses(options["local_ips"], node),
            cluster=known.cluster,
        )
        click.echo(_answer(state, packet, output))

    run_to_end(answer())


def _answer(state: NodeState, packet: Packet, output: str) -> str:
    found = evaluate(state, packet)
    return json.dumps(document(found), indent=2) if output == "json" else text(found)


def _settings(options: Mapping[str, Any]) -> Settings:
    parsed = parse_options(**{name: options[name] for name in _SETTINGS})
    return Settings(
        detect_local_mode=parsed.detect_local_mode,
        cluster_cidrs=parsed.cluster_cidrs,
        pod_interface=parsed.pod_interface,
        masquerade_all=parsed.masquerade_all,
        node_port_addresses=parsed.node_port_addresses,
        localhost_node_ports=options[_LISTENER],
    )


def _check_choice(ctx: click.Context, options: Mapping[str, Any]) -> None:
    if options["path"] is None and options["service_cidrs"]:
        raise UserError("--service-cidrs goes with -i; an API tells its own")
    if options["path"] is not None and ctx.get_parameter_source("api") is not ParameterSource.DEFAULT:
        raise UserError("--api and -i both say where the state comes from; leave one out")


async def _ask(options: Mapping[str, Any], node: str) -> Known:
    if options["path"] is not None:
        return await known_from_files(options["path"], options["service_cidrs"], node)
    address, tls = api_connection(options)
    return await known_from_api(address, tls, node)


def _own_addresses(given: tuple[str, ...] | None, node: str) -> frozenset[str]:
    """Those given, else this machine's where it is the node."""
    if given is not None:
        return frozenset(given)
    if node != socket.gethostname().strip().lower():
        return frozenset()
    try:
        return frozenset(found.address for found in interface_addresses())
    except OSError as error:
        raise UserError(f"the machine's addresses cannot be read: {error.strerror}; give --local-ips") from None
