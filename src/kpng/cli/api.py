"""``kpng api``: another kpng as the source."""

from __future__ import annotations

import click

from kpng.sources.api import ApiSource

from .options import api_connection, api_options
from .pipeline import PipelineGroup, use_source


@click.group("api", cls=PipelineGroup)
@api_options
def api(**options: str | None) -> None:
    """Take the global state from another kpng: a relay, or a tree of them.

    \b
    kpng api --api brain:12090 to-api --listen tcp://:12091
    """
    source = ApiSource(*api_connection(options), problems=click.get_current_context().obj)
    use_source(lambda _wanted: source)
