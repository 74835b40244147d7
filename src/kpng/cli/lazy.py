"""Commands whose modules are imported only when they are asked for: a node agent needs few of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click


class LazyGroup(click.Group):
    """A group with subcommands of its own, and ``lazy`` ones before them: each the click command of that name (with
    ``_`` for ``-``) in the module of that name."""

    lazy: Sequence[str] = ()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"{__package__}.{name}"), name)
        return command
