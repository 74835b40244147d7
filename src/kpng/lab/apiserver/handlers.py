"""HTTP to resources: paths, bodies, content types, answers."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml
from aiohttp import web

from kpng.lab.apiserver import discovery, errors, lists, openapi, patch
from kpng.lab.apiserver.faults import Faults
from kpng.lab.apiserver.options import ListOptions, flag, parse_options
from kpng.lab.apiserver.registry import BY_PLURAL, NAMESPACE, POD, SERVICE, Key, Kind, Object
from kpng.lab.apiserver.resources import Resources, Target
from kpng.lab.apiserver.storage import Stored
from kpng.lab.apiserver.views import View, choose_view
from kpng.lab.apiserver.watch import Watch

logger = logging.getLogger(__name__)

_JSON = "application/json"
_YAML = ("application/yaml", "application/apply-patch+yaml")
_TERMINATION_SECONDS = 0.3
"""How long a deleted namespace stays: `kubectl delete -f` deletes it first, then what the file has in it."""
_HEALTH = ("/healthz", "/livez", "/readyz")
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


@dataclass(frozen=True)
class Place:
    """What a path names: a collection (no name), an object, or a subresource of it."""

    kind: Kind
    namespace: str | None
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        return (self.namespace or "", self.name)


def parse_path(path: str) -> Place:
    """Read a path under /api/v1 or /apis/GROUP/VERSION. Raises 404."""
    match path.strip("/").split("/"):
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise errors.no_such_path()
    namespace = None
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = BY_PLURAL.get((group, version, rest[0] if rest else ""))
    if kind is None or len(rest) > 3 or (namespace is not None and not kind.namespaced):
        raise errors.no_such_path()
    place = Place(kind, namespace, *rest[1:])
    no_status = place.subresource and not (place.subresource == "status" and kind.has_status)
    if no_status or (place.name and kind.namespaced and not namespace):
        raise errors.no_such_path()
    return place


class Handlers:
    """The one entry for every request."""

    def __init__(
        self, resources: Resources, faults: Faults, *, token: str | None, watch_list: bool, bookmark_seconds: float
    ) -> None:
        self._resources = resources
        self._storage = resources.storage
        self._faults = faults
        self._token = token
        self._watch_list = watch_list
        self._bookmark_seconds = bookmark_seconds
        self._on_collection = {"GET": self._list, "POST": self._create}
        self._on_object = {"GET": self._get, "PUT": self._update, "PATCH": self._patch, "DELETE": self._delete}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; failures become Status objects."""
        try:
            await self._faults.before_request()
            self._authenticate(request)
            return await self._route(request)
        except errors.ApiError as error:
            return _json(error.status(), error.code)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception as error:
            logger.exception("%s %s failed", request.method, request.rel_url)
            return _json(errors.ApiError(500, "InternalError", f"Internal error occurred: {error}").status(), 500)

    def _authenticate(self, request: web.Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise errors.unauthorized()

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if path.startswith(_HEALTH):
            return web.Response(text="ok")
        if request.method == "GET":
            document = discovery.answer(path) or openapi.answer(path)
            if document is not None:
                return _json(document)
        place = parse_path(path)
        handlers: Mapping[str, Callable[[web.Request, Place], Awaitable[web.StreamResponse]]]
        handlers = self._on_object if place.name else self._on_collection
        handler = handlers.get(request.method)
        if handler is None or (place.subresource and request.method == "DELETE"):
            raise errors.method_not_allowed()
        return await handler(request, place)

    # -- reading -------------------------------------------------------------------------------------------

    async def _get(self, request: web.Request, place: Place) -> web.StreamResponse:
        view = _view(request, place.kind)
        return _raw(view.item(self._resources.get(place.kind, place.key)))

    async def _list(self, request: web.Request, place: Place) -> web.StreamResponse:
        view = _view(request, place.kind)
        options = parse_options(place.kind, place.namespace, request.query, watch_list=self._watch_list)
        if options.watch:
            return await self._watch(request, view, options)
        items, metadata = lists.page(self._storage, place.kind, options)
        return _raw(view.list(items, metadata))

    async def _watch(self, request: web.Request, view: View, options: ListOptions) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        watch = Watch(self._storage, view, options, self._bookmark_seconds)
        self._faults.watch_began(transport)
        try:
            async with contextlib.aclosing(watch.stream()) as chunks:
                async for chunk in chunks:
                    await self._faults.before_event()
                    await response.write(chunk)
        except ConnectionError:
            logger.debug("%s: the client of a watch is gone", request.rel_url)
        finally:
            self._faults.watch_ended(transport)
        return response

    # -- writing -------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request, place: Place) -> web.StreamResponse:
        view, thing = _view(request, place.kind), await _body(request)
        if place.kind.namespaced and place.namespace is None:
            raise errors.method_not_allowed()
        return _raw(view.item(self._resources.create(_target(request, place), thing)), 201)

    async def _update(self, request: web.Request, place: Place) -> web.StreamResponse:
        view, thing = _view(request, place.kind), await _body(request)
        return _raw(view.item(self._resources.update(_target(request, place), thing)))

    async def _patch(self, request: web.Request, place: Place) -> web.StreamResponse:
        view, target = _view(request, place.kind), _target(request, place)
        if request.content_type not in _PATCHES:
            raise errors.unsupported_media_type(_PATCHES)
        if request.content_type == "application/apply-patch+yaml":
            stored, new = await self._apply(request, target)
            return _raw(view.item(stored), 201 if new else 200)
        text = await _text(request)
        return _raw(view.item(self._resources.patch(target, _change(request.content_type, place.kind, text))))

    async def _apply(self, request: web.Request, target: Target) -> tuple[Stored, bool]:
        manager = request.query.get("fieldManager", "")
        if not manager:
            fault = errors.required("fieldManager", "is required for apply patch")
            raise errors.invalid("PatchOptions.meta.k8s.io", "", [fault], "meta.k8s.io")
        config = await _body(request)
        return self._resources.apply(target, config, manager, flag(request.query, "force"))

    async def _delete(self, request: web.Request, place: Place) -> web.StreamResponse:
        view, options = _view(request, place.kind), await _body(request, optional=True)
        target = _target(request, place)
        stored = self._resources.delete(target, options)
        if place.kind is NAMESPACE and not target.dry_run:
            loop = asyncio.get_running_loop()
            loop.call_later(_TERMINATION_SECONDS, self._resources.finish_namespace, place.name)
        if place.kind in (NAMESPACE, POD, SERVICE):
            return _raw(view.item(stored))
        details = {"name": place.name, "kind": place.kind.plural, "uid": stored.object["metadata"]["uid"]}
        details |= {"group": place.kind.group} if place.kind.group else {}
        return _json(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )


def _view(request: web.Request, kind: Kind) -> View:
    return choose_view(request.headers.get("Accept", ""), kind, request.query.get("includeObject", "Metadata"))


def _target(request: web.Request, place: Place) -> Target:
    return Target(place.kind, place.key, place.subresource, _dry_run(request))


def _dry_run(request: web.Request) -> bool:
    return request.query.get("dryRun") == "All"


def _change(content_type: str, kind: Kind, text: Any) -> Callable[[Object], Object]:
    """The function of a patch document."""
    match content_type:
        case "application/json-patch+json":
            return lambda thing: _object(patch.json_patch(thing, text))
        case "application/merge-patch+json":
            return lambda thing: _object(patch.merge(thing, _object(text)))
        case _:
            return lambda thing: patch.strategic(kind, thing, _object(text))


async def _body(request: web.Request, *, optional: bool = False) -> Object:
    if optional and not request.can_read_body:
        return {}
    return _object(await _text(request))


async def _text(request: web.Request) -> Any:
    """The decoded body. Raises 400, 415."""
    raw = await request.read()
    kind = request.content_type
    try:
        if kind in _YAML:
            return yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if kind.endswith("json") or kind == "application/octet-stream":
            return msgspec.json.decode(raw)
    except (msgspec.DecodeError, yaml.YAMLError) as error:
        raise errors.bad_request(f"error decoding the body: {error}") from error
    raise errors.unsupported_media_type((_JSON, _YAML[0]))


def _object(value: Any) -> Object:
    if not isinstance(value, dict):
        raise errors.bad_request("the body is not an object")
    return value


def _json(document: Object, code: int = 200) -> web.Response:
    return _raw(msgspec.json.encode(document), code)


def _raw(body: bytes, code: int = 200) -> web.Response:
    return web.Response(body=body, status=code, headers={"Content-Type": _JSON})
