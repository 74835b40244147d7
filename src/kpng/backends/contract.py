"""What a backend is: a thing that makes one node's local state real.

A backend gets change sets and applies each whole or not at all. Everything around that (following the
state, merging what piled up, retrying with backoff, starting over) is the runtime's work, not the backend's.
docs/writing-a-backend.md is the long version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import click

from kpng.model import ChangeSet

from .conntrack import ConntrackReconciler


class Backend(ABC):
    """Base class of all backends; ``kpng.backends`` entry points name subclasses.

    The class attribute ``help`` is shown by ``kpng local to-NAME --help``; ``options`` are click options and
    arguments, whose values become the constructor's keyword arguments.
    """

    help: ClassVar[str] = ""
    options: ClassVar[tuple[click.Parameter, ...]] = ()

    @property
    def node_port_addresses(self) -> Sequence[str] | None:
        """Where this backend offers node ports: CIDRs, or "primary" (the Node's own addresses), empty for all local
        addresses. There the runtime answers health checks of Services (healthCheckNodePort). None: nowhere."""
        return None

    async def start(self) -> None:  # noqa: B027 - optional to override
        """Prepare (open sockets, check the kernel). Raise `kpng.UserError` for what the user can mend."""

    @abstractmethod
    async def apply(self, changes: ChangeSet) -> None:
        """Make ``changes`` real: all of them, or raise and leave everything as it was.

        The first change set of a process has ``full`` set: it is the whole desired state, so whatever an
        earlier run left and this does not contain must go. After an exception the runtime calls again, with
        backoff, with these and all later changes merged into one (`ChangeSet.then`).
        """

    async def stop(self) -> None:  # noqa: B027 - optional to override
        """Release what `start` took. What was programmed stays: traffic goes on while kpng restarts."""

    def conntrack(self) -> ConntrackReconciler | None:
        """What removes stale UDP flows (the runtime runs it), for a backend that translates addresses with the
        kernel's connection tracking. Asked after `start`."""
        return None

    @classmethod
    async def cleanup(cls) -> str:
        """Remove everything this backend ever programmed on this machine (``kpng cleanup NAME``).

        Returns a line that says what was removed.
        """
        return "nothing to clean up"
