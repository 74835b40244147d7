"""What a brain keeps: the memory of a real ``kpng kube to-api``, following a real (embedded) API server.

First an empty cluster, then one of the given size with all that API servers send (managedFields, the images of
Nodes). A process has settled when it has used no processor for a while. ``peak_mib`` is the most it ever had (VmHWM
of proc(5)); ``bytes_per_endpoint`` is what it has more than with the empty cluster, all kinds together.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from kpng.lab.apiserver import ApiServer
from kpng.load import Object, Shape, as_served, objects

from .harness import Figures, cpu_seconds, parser, report, resident_mib

_QUIET_SECONDS = 3.0
_LONGEST_SECONDS = 300.0


def main() -> None:
    flags = parser(__doc__, services=10_000, endpoints=10, nodes=5000)
    flags.add_argument("--pages", action="store_true", help="an API server that has no streaming lists")
    given = flags.parse_args()
    shape = Shape(services=given.services, endpoints=given.endpoints, nodes=given.nodes, namespaces=50, hints=True)
    empty = asyncio.run(follow((), watch_list=not given.pages))
    full = asyncio.run(follow(objects(shape), watch_list=not given.pages))
    grown = (full["settled_mib"] - empty["settled_mib"]) * 2**20
    more = {"empty_mib": empty["settled_mib"], "bytes_per_endpoint": grown / shape.total}
    report("memory", given, full | more)


async def follow(things: Iterable[Object], *, watch_list: bool) -> Figures:
    """Serve the things, have them followed, and measure who follows."""
    server = ApiServer(watch_list=watch_list)
    say("making objects")
    server.load(as_served(thing, revision) for revision, thing in enumerate(things, 1))
    await server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return await measure(server.kubeconfig(Path(folder) / "kubeconfig"), Path(folder))
    finally:
        await server.stop()


async def measure(kubeconfig: Path, folder: Path) -> Figures:
    say("starting kpng")
    argv = (sys.executable, "-m", "kpng", "kube", "--kubeconfig", str(kubeconfig))
    process = await asyncio.create_subprocess_exec(
        *argv, "to-api", "--listen", f"unix://{folder}/socket", stderr=asyncio.subprocess.PIPE
    )
    try:
        busy = await settled(process.pid)
        figures = {"peak_mib": peak_mib(process.pid), "settled_mib": resident_mib(process.pid), "load_s": busy}
        figures["load_cpu_s"] = cpu_seconds(process.pid)
    finally:
        process.terminate()
        _, said = await process.communicate()
    if b"WARNING" in said or b"ERROR" in said:
        raise SystemExit(said.decode())
    return figures


async def settled(pid: int) -> float:
    """Wait until the process has nothing to do; returns how many seconds after its start that was."""
    started = last = time.monotonic()
    used = 0.0
    while time.monotonic() - last < _QUIET_SECONDS:
        if time.monotonic() - started > _LONGEST_SECONDS:
            raise SystemExit(f"kpng is still busy after {_LONGEST_SECONDS:.0f} s")
        await asyncio.sleep(0.1)
        now = cpu_seconds(pid)
        if now > used + 0.02:  # a tick now and then is no work
            used, last = now, time.monotonic()
    return last - started


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def say(what: str) -> None:
    print(what, file=sys.stderr)


if __name__ == "__main__":
    main()
