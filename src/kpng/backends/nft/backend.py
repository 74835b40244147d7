"""``to-nft``: the nftables backend."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import click

from kpng.backends.conntrack import ConntrackReconciler, node_addresses
from kpng.backends.contract import Backend
from kpng.host.nftables import Nftables, TransactionError
from kpng.model import FAMILIES, ChangeSet, Family, LocalNode, Problem, ProblemLog, UserError, family_of

from .books import Books, Draft, Lost
from .guard import Guard
from .kernel import Kernel, OutgrownError, Services, remove_tables
from .layout import Layout
from .localhost import LocalhostNodePorts
from .node import node_problems, offering_node_ports
from .options import click_options, parse_options
from .text import HEADER, change_text, table_text

log = logging.getLogger(__name__)

_INLINE_ENDPOINTS = 1000
"""Changes up to this many endpoints are worked out in the event loop's thread: they take a few milliseconds,
less than the way to another thread and back may on a busy machine. Larger ones go to a thread, so that streams and
health checks go on."""

HELP = """Forward services with nftables: two tables, `ip kpng` and `ip6 kpng`, and nothing else is touched.

Services and endpoints are elements of a few maps; the rules are fixed. A change costs what changed, however
many services there are. On exit the rules stay; `kpng cleanup nft` removes them.

\b
  kpng local to-nft --cluster-cidr 10.244.0.0/16,fd00:10:244::/56
  kpng file -i state.yaml to-local to-nft --dry-run    # print the ruleset, touch nothing
  nft list table ip kpng                               # what is programmed
"""


class NftBackend(Backend):
    """Forwards services with nftables."""

    help: ClassVar[str] = HELP
    options: ClassVar[tuple[click.Option, ...]] = click_options()

    def __init__(self, *, dry_run: bool = False, localhost_nodeports: bool = False, **chosen: Any) -> None:
        """``chosen``: the values of `options`, see `parse_options`."""
        self._options = options = parse_options(**chosen)
        self._layouts = {family: Layout(family, options) for family in FAMILIES}
        self._dry_run = dry_run
        self._books: Books | None = None
        self._connection: Nftables | None = None
        self._kernel: Kernel | None = None
        self._turn = asyncio.Lock()
        self._guard: Guard | None = None
        self._localhost = (
            LocalhostNodePorts(self._node_port_target) if localhost_nodeports and not dry_run else None
        )
        self._beside: list[asyncio.Task[None]] = []
        self.problems = ProblemLog()
        self._has_reported = False

    async def start(self) -> None:
        if self._dry_run:
            return
        self._connection = connect()
        self._kernel = Kernel(self._layouts, self._connection)
        if self._localhost is not None:
            self._beside.append(asyncio.create_task(self._localhost.run()))

    async def apply(self, changes: ChangeSet) -> None:
        services = {key: change.new for key, change in changes.changes.items()}
        if self._dry_run:
            self._report(self._print(services, changes.node, full=changes.full))
            return
        assert self._kernel is not None, "apply before start"
        assert self._connection is not None
        async with self._turn:
            try:
                draft, adopted = await self._program(self._kernel, services, changes)
            except OutgrownError as error:
                log.info("%s: programming the tables anew, with more room", error)
                draft, adopted = await self._program(self._kernel, services, changes)
        self._report(draft)
        if adopted:
            log.info("the tables already hold what they should; nothing written")
        if self._guard is None:
            self._guard = Guard(self._kernel, self._connection, self._turn)
            self._beside.append(asyncio.create_task(self._guard.run()))
        if self._localhost is not None:
            self._localhost.apply(services, full=changes.full)

    @staticmethod
    async def _program(kernel: Kernel, services: Services, changes: ChangeSet) -> tuple[Draft, bool]:
        if kernel.known and _is_small(changes):
            return kernel.apply(services, full=False, node=changes.node)
        return await asyncio.to_thread(kernel.apply, services, full=changes.full, node=changes.node)

    async def stop(self) -> None:
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def node_port_addresses(self) -> Sequence[str] | None:
        return None if self._dry_run else self._options.node_port_addresses

    def conntrack(self) -> ConntrackReconciler | None:
        return None if self._dry_run else ConntrackReconciler(node_port_addresses=self._offering_node_ports)

    def _offering_node_ports(self) -> list[str]:
        """The addresses of this machine at which node ports are offered now."""
        assert self._kernel is not None
        return offering_node_ports(self._kernel.books.node, self._options, node_addresses())

    def _node_port_target(self, family: Family) -> str | None:
        return next((a for a in self._offering_node_ports() if family_of(a) is family), None)

    @classmethod
    async def cleanup(cls) -> str:
        connection = connect()
        try:
            removed = remove_tables(connection)
        except TransactionError as error:
            if error.errno != errno.EPERM:
                raise
            raise UserError("the tables belong to a process that still runs: stop kpng first") from error
        finally:
            connection.close()
        return f"removed table {' and table '.join(removed)}" if removed else "no table of kpng is there"

    def _print(self, services: Services, node: LocalNode | None, *, full: bool) -> Draft:
        """Print the whole ruleset first, then what changes."""
        books = self._books
        if books is None:
            books = self._books = Books(self._layouts)
            draft = books.draft(services, node=node, fresh=True)
            tables = (table_text(self._layouts[f], table.change) for f, table in draft.tables.items())
            sys.stdout.write(HEADER + "\n".join(tables))
        else:
            wanted = {**dict.fromkeys(books.services), **services} if full else services
            draft = books.draft(wanted, node=node)
            for family, table in draft.tables.items():
                sys.stdout.write(change_text(self._layouts[family], table.change))
        sys.stdout.flush()
        books.take(draft)
        return draft

    def _report(self, draft: Draft) -> None:
        if draft.node is not None or not self._has_reported:
            self._has_reported = True
            missing = (Problem("to-nft", *each) for each in node_problems(draft.node, self._options))
            self.problems.report("to-nft", missing)
        for key, lost in draft.lost.items():
            self.problems.report(f"Service {key}", self._problems(f"Service {key}", lost))

    @staticmethod
    def _problems(subject: str, lost: Lost) -> Iterable[Problem]:
        for frontend, owner in lost:
            yield Problem(subject, f"port {frontend.mapping.port}", f"{frontend} already belongs to {owner}")


def connect() -> Nftables:
    """Open a connection to nf_tables. Raises `UserError` where this process or kernel cannot."""
    try:
        connection = Nftables()
        connection.generation()
    except OSError as error:
        if error.errno == errno.EPERM:
            raise UserError("to-nft needs root (CAP_NET_ADMIN); --dry-run does not") from error
        raise UserError(f"this kernel offers no nf_tables: {error.strerror}") from error
    return connection


def _is_small(changes: ChangeSet) -> bool:
    """A Node that changes is rare, and may concern every Service with source ranges."""
    if changes.full or changes.node is not None:
        return False
    services = (change.new for change in changes.changes.values())
    return sum(1 + len(local.endpoints) if local else 1 for local in services) <= _INLINE_ENDPOINTS
