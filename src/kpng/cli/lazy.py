"""Commands whose modules are imported only when they are asked for: a node agent needs few of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click

from kpng.model import UserError


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
        try:
            command: click.Command = getattr(import_module(f"{__package__}.{name}"), name)
        except ModuleNotFoundError as error:
            return _stand_in(cmd_name, not_installed(cmd_name, error))
        return command


def not_installed(name: str, error: ModuleNotFoundError) -> UserError:
    """What to tell where a command needs a package that is not there; a module of ours that is not is a fault, and
    raised as it is."""
    if error.name is None or error.name.partition(".")[0] == __package__.partition(".")[0]:
        raise error
    return UserError(f"{name} needs the package {error.name}, which is not installed: pip install 'kpng[all]'")


def _stand_in(name: str, reason: UserError) -> click.Command:
    """In place of a command: it is listed, and says what to do."""

    def tell(_words: tuple[str, ...]) -> None:
        raise reason

    return click.Command(
        name,
        callback=tell,
        params=[click.Argument(["_words"], nargs=-1)],
        short_help="Not installed: pip install 'kpng[all]'",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
