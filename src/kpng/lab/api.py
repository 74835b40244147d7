"""A few calls to the lab's API server, over the lab's network."""

from __future__ import annotations

import json

from .manifests import NAMESPACE, Object
from .probes import Prober
from .processes import LabError

SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
MERGE_PATCH = "application/merge-patch+json"  # RFC 7396: lists are replaced whole


class Api:
    """Create, patch and delete objects. Every call raises `LabError` if the server does not agree."""

    def __init__(self, prober: Prober, host: str, port: int) -> None:
        self._prober = prober
        self._host = host
        self._port = port

    async def ready(self) -> bool:
        """Whether the server serves the lab's Services already."""
        try:
            return bool((await self.call("GET", SERVICES)).get("items"))
        except LabError:
            return False

    async def create(self, path: str, made: Object) -> Object:
        return await self.call("POST", path, made)

    async def patch(self, path: str, name: str, change: Object) -> Object:
        return await self.call("PATCH", f"{path}/{name}", change, MERGE_PATCH)

    async def delete(self, path: str, name: str) -> Object:
        return await self.call("DELETE", f"{path}/{name}")

    async def call(
        self, method: str, path: str, body: Object | None = None, content_type: str = "application/json"
    ) -> Object:
        """One request. HTTP/1.0, so that the answer comes in one piece and ends with the connection."""
        data = json.dumps(body).encode() if body is not None else b""
        head = (
            f"{method} {path} HTTP/1.0\r\nHost: {self._host}:{self._port}\r\nAccept: application/json\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        try:
            answer = await self._prober.exchange(self._host, self._port, head.encode() + data)
        except (OSError, TimeoutError) as error:
            raise LabError(
                f"the lab's API server did not answer {method} {path}: {str(error) or 'timeout'}"
            ) from None
        status, _, content = answer.partition(b"\r\n\r\n")
        words = status.split(maxsplit=2)
        if len(words) < 2 or not words[1].startswith(b"2"):
            said = (content or status).decode(errors="replace")[:300]
            raise LabError(f"the lab's API server refused {method} {path}: {said}")
        try:
            answered: Object = json.loads(content)
        except ValueError:
            raise LabError(f"the lab's API server answered {method} {path} with something else than JSON") from None
        return answered
