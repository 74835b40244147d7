"""Backends as commands: ``to-NAME`` for every installed one, imported only when asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from kpng.backends import Backend, backend_names, load_backend, run_backend
from kpng.model import ChangeSet, UserError

from .health import HEALTHZ_OPTION, run_with_health
from .options import nearest_node_name
from .running import UserMistake

ChangeSets = Callable[[str], AsyncIterator[ChangeSet]]
"""Given a node's name, its change sets."""


@dataclass(frozen=True)
class BackendRun:
    """What a backend command returns. ``once``: it ends after the first state."""

    make: Callable[[], Backend]
    node: str
    once: bool
    healthz: str = ""

    async def __call__(self, change_sets: ChangeSets) -> None:
        changes = change_sets(self.node)
        if self.once:
            await run_backend(self.make(), changes, once=True)
        else:
            await run_with_health(self.make(), changes, self.healthz)


PREFIX = "to-"


class BackendGroup(click.Group):
    """A group whose subcommands are the installed backends."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(PREFIX + name for name in backend_names())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.removeprefix(PREFIX)
        if not cmd_name.startswith(PREFIX) or name not in backend_names():
            return super().get_command(ctx, cmd_name)
        try:
            return backend_command(cmd_name, load_backend(name))
        except UserError as error:
            if ctx.resilient_parsing:
                return None
            raise UserMistake(str(error)) from None


def backend_command(name: str, backend: type[Backend]) -> click.Command:
    """The command of one backend: its own options, and those that all have."""

    @click.pass_context
    def start(ctx: click.Context, /, node_name: str | None, once: bool, healthz: str, **options: Any) -> BackendRun:
        if once and healthz:
            raise UserError("--healthz-bind-address and --once: nobody could ask what ends at once; leave one out")
        return BackendRun(partial(backend, **options), nearest_node_name(ctx, node_name), once, healthz)

    common = (
        click.Option(
            ["--node-name"], metavar="NAME", help="Which node this is. [default: the host name, in lower case]"
        ),
        click.Option(["--once"], is_flag=True, help="End after the first state has been applied."),
        HEALTHZ_OPTION,
    )
    return click.Command(name, params=[*backend.options, *common], callback=start, help=backend.help)
