"""The ``kube`` source: the Kubernetes API server."""

from __future__ import annotations

import asyncio
import logging
import time

import aiohttp
from msgspec import Struct

from kpng.model import ProblemLog, UserError
from kpng.store import Store

from .access import AccessOptions
from .client import KubeClient, connect
from .convert import Converter, Filters
from .credentials import CredentialsError
from .http import HTTPError
from .intake import node_intake, service_cidr_intake, service_intake, slice_intake
from .lines import LineSplitter, LineTooLongError
from .reflector import Receiver, Reflector, Request, WatchError
from .resource import Resource, resources

log = logging.getLogger(__name__)

_ABSENT = (403, 404)
_FAILURES = (  # OSError: also TimeoutError
    HTTPError,
    CredentialsError,
    WatchError,
    LineTooLongError,
    aiohttp.ClientError,
    OSError,
)


class KubeOptions(Struct, frozen=True):
    """What the command line gives."""

    access: AccessOptions = AccessOptions()
    filters: Filters = Filters()


class KubeSource:
    """Follows Services, EndpointSlices, Nodes and ServiceCIDRs, each on its own; what fails is tried again."""

    def __init__(self, options: KubeOptions, problems: ProblemLog) -> None:
        self._options = options
        self._problems = problems

    async def run(self, store: Store) -> None:
        """Follow until cancelled. Raises `kpng.UserError` where there is no server to follow."""
        async with await connect(self._options.access) as client:
            converter = Converter(self._options.filters, client.server)
            receivers: tuple[Receiver, ...] = (
                service_intake(store, converter, self._problems),
                slice_intake(store, converter, self._problems),
                node_intake(store, converter, self._problems),
                service_cidr_intake(store, converter, self._problems),
            )
            async with asyncio.TaskGroup() as group:
                for resource, receiver in zip(resources(self._options.filters), receivers, strict=True):
                    follower = Follower(resource, receiver, client)
                    group.create_task(follower.run(), name=f"kube {resource.name}")


class Follower:
    """Drives one reflector: does its requests, feeds it the answers, waits as it says."""

    def __init__(self, resource: Resource, receiver: Receiver, client: KubeClient) -> None:
        self._name = resource.name
        self._dispensable = resource.optional
        """Whether to go on without it: not once it has been seen."""
        self._denied = False
        self._receiver = receiver
        self._reflector = Reflector(resource, receiver)
        self._client = client
        self._trouble = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            seconds = await self._round()
            await asyncio.sleep(seconds)

    async def _round(self) -> float:
        """One request; returns the seconds to wait before the next."""
        started = time.monotonic()
        try:
            await self._perform(self._reflector.request())
        except _FAILURES as error:
            return await self._failed(error)
        return self._reflector.ended(time.monotonic() - started)

    async def _perform(self, request: Request) -> None:
        if not request.stream:
            self._reflector.page(await self._client.read(request))
            self._working()
            return
        splitter = LineSplitter()
        async with self._client.stream(request) as chunks:
            async for chunk in chunks:
                lines = splitter.feed(chunk)
                if lines:
                    self._reflector.lines(lines)
                    self._working()

    async def _failed(self, error: Exception) -> float:
        status = error.status if isinstance(error, HTTPError | WatchError) else 0
        text = _text(error)
        if isinstance(error, HTTPError) and status == 401 and await self._renew(error):
            return self._reflector.renewed()
        paged = self._reflector.paged
        seconds = self._reflector.failed(status, error.retry_after if isinstance(error, HTTPError) else 0.0)
        if self._dispensable and status in _ABSENT:
            self._go_without(status, text)
        elif self._reflector.paged and not paged:
            log.info("%s at %s: no streaming list (%s); listing in pages", self._name, self._client.server, text)
        elif status == 410:
            log.info("%s: %s: listing again", self._name, text)
        elif text != self._trouble:
            self._trouble = text
            log.warning("%s at %s: %s; trying again in %.1f s", self._name, self._client.server, text, seconds)
        return seconds

    def _go_without(self, status: int, text: str) -> None:
        """There is no such resource, or none for us. A server that has just started may deny what it will allow as
        soon as it has read its RBAC rules, so a denial counts from the second on."""
        if status == 403 and not self._denied:
            self._denied = True
            return
        self._dispensable = False
        self._trouble = text
        self._receiver.commit(replace=True)
        log.info("%s at %s: %s; going on without them", self._name, self._client.server, text)

    async def _renew(self, refusal: HTTPError) -> bool:
        """Whether there may be fresh credentials, so that trying again at once makes sense."""
        try:
            return await self._client.renew(refusal.access)
        except UserError as error:
            log.warning("%s: credentials: %s", self._name, error)
            return False

    def _working(self) -> None:
        self._dispensable = False
        if self._trouble:
            log.info("%s at %s: working again", self._name, self._client.server)
            self._trouble = ""


def _text(error: Exception) -> str:
    """One line for people, where aiohttp's own shows our objects or its insides."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke off"
    if isinstance(error, aiohttp.InvalidURL):  # which may hold a proxy's password
        return "the address of the server or of its proxy cannot be used"
    return str(error) or type(error).__name__
