"""`to-hosts`: keeps a file in the format of hosts(5) with the names and cluster IPs of all services."""

from pathlib import Path

import click

from kpng.backends import Backend, LocalState
from kpng.model import ChangeSet


class HostsBackend(Backend):
    help = "Write the names and cluster IPs of all services to FILE, for hosts(5), dnsmasq or CoreDNS."
    options = (click.Argument(["file"], type=click.Path(dir_okay=False, path_type=Path)),)

    def __init__(self, file: Path) -> None:
        self._file = file
        self._state = LocalState()

    async def apply(self, changes: ChangeSet) -> None:
        state = self._state.after(changes)
        services = [state.services[key].service for key in sorted(state.services)]
        lines = [f"{ip} {s.name}.{s.namespace}.svc\n" for s in services for ip in s.cluster_ips.all()]
        scratch = self._file.with_name(f".{self._file.name}.new")
        scratch.write_text("".join(lines))
        scratch.replace(self._file)  # readers see the old file or the new one, never half of it
        self._state = state
