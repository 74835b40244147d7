"""The embedded API server itself: start, stop, load, kubeconfig."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from aiohttp import web

from kpng.lab.apiserver.allocation import ServiceAllocator
from kpng.lab.apiserver.faults import Faults
from kpng.lab.apiserver.handlers import Handlers
from kpng.lab.apiserver.journal import Journal
from kpng.lab.apiserver.registry import KINDS, NAMESPACE, Object
from kpng.lab.apiserver.resources import Resources, Target, kind_of
from kpng.lab.apiserver.storage import Storage

_MAX_BODY = 64 << 20


class ApiServer:
    """A Kubernetes API server in memory: Services, EndpointSlices, Nodes, Pods, Namespaces.

    For tests and demos only. All of it runs in the event loop that calls `start`. ``watch_list=False`` refuses
    sendInitialEvents, as servers before 1.32 do. ``history_limit`` is per kind. ``faults`` makes it misbehave.
    """

    def __init__(
        self,
        *,
        service_cidrs: Sequence[str] = ("10.96.0.0/16", "fd00:10:96::/112"),
        node_ports: range = range(30000, 32768),
        history_limit: int = 10_000,
        bookmark_seconds: float = 60.0,
        watch_list: bool = True,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.faults = Faults()
        self.url = ""
        self._storage = Storage(history_limit)
        self._resources = Resources(self._storage, ServiceAllocator(service_cidrs, node_ports))
        self._resources.put(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "ServiceCIDR",
                "metadata": {"name": "kubernetes"},
                "spec": {"cidrs": list(service_cidrs)},
            }
        )
        self._token = token
        self._ssl = ssl_context
        self._handlers = Handlers(
            self._resources, self.faults, token=token, watch_list=watch_list, bookmark_seconds=bookmark_seconds
        )
        self._runner: web.AppRunner | None = None

    @property
    def revision(self) -> int:
        """The resourceVersion of the latest change."""
        return self._storage.revision

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; port 0 takes a free one. Returns the URL. Raises OSError. May be started again after `stop`."""
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._handlers.handle)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=self._ssl).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if self._ssl else 'http'}://{shown}:{runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        """Cut the watches and stop listening; the objects stay."""
        self.faults.resume()
        self.faults.drop_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def load(self, objects: Iterable[Object]) -> None:
        """Create or replace objects, status included, and the namespaces they need.

        Lists are taken apart. The objects are copied. Raises `errors.ApiError` at the first bad one.
        """
        for thing in objects:
            if thing.get("kind", "").endswith("List") and "items" in thing:
                self.load(thing["items"])
            else:
                self._resources.put(msgspec.json.decode(msgspec.json.encode(thing)))

    def keep_journal(self, path: Path) -> int:
        """Take everything from a journal, and write it on; call it before anything is loaded. Returns how many
        changes it had. Raises OSError, ValueError."""
        return Journal(path).keep(self._storage)

    def delete(self, thing: Object) -> None:
        """Delete the object that has this one's kind, namespace and name. Raises `errors.ApiError` (404)."""
        kind = kind_of(thing)
        namespace = thing["metadata"].get("namespace", "default") if kind.namespaced else ""
        name = thing["metadata"]["name"]
        self._resources.delete(Target(kind, (namespace, name)), {})
        if kind is NAMESPACE:
            self._resources.finish_namespace(name)

    def objects(self, kind: str) -> list[Object]:
        """All objects of a kind ("Service"), as stored: do not change them. Raises KeyError."""
        return list(self._storage.objects({known.name: known for known in KINDS}[kind]))

    def compact(self) -> None:
        """Forget the history: watches and lists at older revisions get 410 Gone."""
        self._storage.compact()

    def kubeconfig(self, path: str | Path, certificate_authority: bytes | None = None) -> Path:
        """Write a kubeconfig for this server (after `start`), with its token and the given CA (PEM)."""
        cluster: dict[str, Any] = {"server": self.url}
        if certificate_authority is not None:
            cluster["certificate-authority-data"] = base64.b64encode(certificate_authority).decode()
        user = {"token": self._token} if self._token else {}
        name = "kpng-lab"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        path = Path(path)
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path
