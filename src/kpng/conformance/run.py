"""``kpng conformance``: choose, run, report."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kpng.backends import backend_names, load_backend
from kpng.lab.netns import Namespace
from kpng.model import UserError

from .flows import Scenario, for_backend, load_scenarios
from .inside import check_machine, run_inside
from .packetflows import Progress, run_scenarios
from .report import as_json, table, total
from .results import Result, count
from .topology import load_cases, run_cases

_SILENT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ConformanceOptions:
    """What is asked for. ``data``: a file instead of the package's; ``only``: part of a scenario's name."""

    data: str | None = None
    only: str = ""
    json: bool = False
    verbose: bool = False


async def run_packet_flows(backend: str | None, options: ConformanceOptions) -> int:
    """Replay packet flows against a backend and print the report. Returns 0 if nothing failed, else 1.

    Raises `kpng.UserError` for what the user can mend.
    """
    if backend is None:
        raise UserError(f"which backend? --backend NAME, installed: {', '.join(backend_names())}")
    backend_class = load_backend(backend)
    scenarios = chosen(for_backend(load_scenarios(options.data), backend), options.only)
    check_machine()
    started = time.monotonic()

    async def replay(namespace: Namespace) -> list[Result]:
        return await run_scenarios(namespace, backend, backend_class, scenarios, progress(len(scenarios), started))

    with _only_errors_logged():
        try:
            results = await run_inside(replay)
        except asyncio.CancelledError:  # by a signal; 0 would say that nothing failed
            print("kpng conformance: stopped before the end", file=sys.stderr)
            return 1
    return _report(backend, results, options, time.monotonic() - started)


def run_topology(options: ConformanceOptions) -> int:
    """Check endpoint choice and print the report. Returns 0 if nothing failed, else 1."""
    started = time.monotonic()
    results = run_cases(load_cases(options.data))
    return _report("topology", results, options, time.monotonic() - started)


def chosen(scenarios: Sequence[Scenario], only: str) -> list[Scenario]:
    """The scenarios whose name contains ``only``. Raises `UserError` if there is none."""
    found = [scenario for scenario in scenarios if only in scenario.name]
    if not found:
        raise UserError(
            f"--only {only!r}: no scenario for this backend has that in its name" if only else "no scenarios"
        )
    return found


def progress(scenarios: int, started: float) -> Progress:
    """Tells, at a terminal, how far a longer run is."""
    failed = 0

    def tell(done: int, results: Sequence[Result]) -> None:
        nonlocal failed
        failed += count(results, "failed")
        if sys.stderr.isatty() and time.monotonic() - started > _SILENT_SECONDS:
            end = "\r\x1b[K" if done == scenarios else ""
            print(
                f"\r{done} of {scenarios} scenarios, {failed} flows failed{end}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    return tell


def _report(subject: str, results: Sequence[Result], options: ConformanceOptions, seconds: float) -> int:
    if options.json:
        print(as_json(results))
    else:
        if shown := table(results, verbose=options.verbose):
            print(shown, end="\n\n")
        print(total(subject, results, seconds))
    return 1 if count(results, "failed") else 0


@contextmanager
def _only_errors_logged() -> Iterator[None]:
    """Scenarios hold bad objects on purpose, and a backend's complaints are in the report."""
    logger = logging.getLogger("kpng")
    before = logger.level
    if not logger.isEnabledFor(logging.DEBUG):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
