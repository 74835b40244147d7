"""The command ``kpng``."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from typing import NoReturn

import click
from click.shell_completion import get_completion_class

import kpng
from kpng.backends import backend_names, load_backend
from kpng.model import UserError
from kpng.ops import FORMATS, LEVELS, configure_logging

from .lazy import LazyGroup, not_installed
from .output import OutputClosedError, guard_standard_output
from .running import EXIT_DONE, UserMistake

COMMANDS = ("kube", "file", "api", "local", "proxy", "lab", "conformance", "explain", "load")
SHELLS = ("bash", "zsh", "fish")


class RootGroup(LazyGroup):
    """The commands that have a module of their own, and the small ones that follow here."""

    lazy = COMMANDS


@click.group(cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="How much to log.")
@click.option("--log-format", type=click.Choice(FORMATS), default="text", show_default=True, help="How to log.")
def root(log_level: str, log_format: str) -> None:
    """Kubernetes Proxy NG: a service proxy taken apart.

    A SOURCE fills the store, SINKS take it on, a BACKEND makes it real:

    \b
    kpng kube to-api                            the brain: watch Kubernetes, serve node agents
    kpng local --api brain:12090 to-nft         a node agent: program nftables
    kpng kube to-local to-nft                   both in one process
    kpng proxy --config=FILE                    the same with kube-proxy's command line, in its place
    kpng kube to-api + to-local to-nft          several sinks at once, separated by +
    kpng file -i state.yaml to-local to-print   what would a node have to do?
    kpng explain --from IP --to IP:PORT         what happens to such a connection here, and why?
    kpng lab                                    see it work, in a cluster of network namespaces
    kpng load --server URL --services 1000      give an API server something to do

    Exit codes: 0 done, stopped by a signal or no longer read, 1 failed, 2 wrong usage or input.
    """
    configure_logging(log_level, log_format)


@root.command()
def version() -> None:
    """Print the versions of kpng, Python and the system."""
    click.echo(
        f"kpng {kpng.__version__} (Python {platform.python_version()}, {platform.system()} {platform.release()})"
    )


@root.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a completion script.

    \b
    eval "$(kpng completion bash)"
    kpng completion zsh > "${fpath[1]}/_kpng"
    kpng completion fish > ~/.config/fish/completions/kpng.fish
    """
    generator = get_completion_class(shell)
    assert generator is not None
    click.echo(generator(root, {}, "kpng", "_KPNG_COMPLETE").source())


@root.command()
@click.argument("backend", type=click.Choice(backend_names()))
def cleanup(backend: str) -> None:
    """Remove everything that a backend programmed on this machine.

    \b
    kpng cleanup nft
    """
    try:
        click.echo(asyncio.run(load_backend(backend).cleanup()))
    except UserError as error:
        raise UserMistake(str(error)) from None


def _open_standard_files() -> None:
    """Where one is closed (``>&-``), its number would go to the next socket, and libuv aborts on such a one."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def main() -> None:
    """Entry point of the command."""
    _open_standard_files()
    guard_standard_output()
    try:
        root(prog_name="kpng")
    except OutputClosedError:
        sys.exit(EXIT_DONE)
    except ModuleNotFoundError as error:
        _end(not_installed("kpng", error))
    except UserError as error:
        _end(error)


def _end(error: UserError) -> NoReturn:
    UserMistake(str(error)).show()
    sys.exit(UserMistake.exit_code)
