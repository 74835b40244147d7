"""An API server that plays a script: what it is asked for, it answers with what a test likes, faults included."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

END = {"k8s.io/initial-events-end": "true"}
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedServer:
    """Answers each resource with the next reply of its script; when the script is over, with nothing new.

    ``requests`` holds the query of each request, by resource; ``checks`` the versions of those that only ask
    whether a version is known, which have a script of their own.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, list[Reply]] = {
            "services": [],
            "endpointslices": [],
            "nodes": [],
            "servicecidrs": [],
        }
        self.requests: dict[str, list[dict[str, str]]] = {name: [] for name in self.scripts}
        self.checks: list[str] = []
        self.check_script: list[Reply] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def script(self, resource: str, *replies: Reply) -> None:
        self.scripts[resource] += replies

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[ScriptedServer]:
        app = web.Application()
        app.router.add_get("/api/v1/{resource}", self._answer)
        app.router.add_get("/apis/discovery.k8s.io/v1/{resource}", self._answer)
        app.router.add_get("/apis/networking.k8s.io/v1/{resource}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        resource = request.match_info["resource"]
        if request.query.get("limit") == "1":
            self.checks.append(request.query["resourceVersion"])
            return await (self.check_script.pop(0) if self.check_script else page())(request)
        self.requests[resource].append(dict(request.query))
        self.headers.append(dict(request.headers))
        script = self.scripts[resource]
        if script:
            return await script.pop(0)(request)
        if "watch" not in request.query:
            return await page()(request)
        if "sendInitialEvents" in request.query:
            return await watch(bookmark(1, END), hang=True)(request)
        return await watch(hang=True)(request)


def event(type_: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def bookmark(version: int, annotations: dict[str, str] | None = None) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version), "annotations": annotations}})


def kube_service(name: str, version: int = 1, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "demo", "name": name, "resourceVersion": str(version), **metadata},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    }


def watch(*chunks: bytes, hang: bool = False, cut: bool = False, gap: float = 0.0) -> Reply:
    """A stream of chunks; then it hangs, or breaks off as a lost connection does, or ends well."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(gap)
        if hang:
            await asyncio.sleep(60)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return reply


def page(*items: dict[str, Any], version: int = 10, token: str = "") -> Reply:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": str(version), "continue": token}, "items": items})

    return reply


def failure(code: int, message: str = "no", headers: dict[str, str] | None = None) -> Reply:
    async def reply(_: web.Request) -> web.StreamResponse:
        status = {"kind": "Status", "status": "Failure", "code": code, "message": message}
        return web.json_response(status, status=code, headers=headers)

    return reply


def gone_event() -> bytes:
    return event(
        "ERROR", {"kind": "Status", "status": "Failure", "code": 410, "message": "too old resource version"}
    )
