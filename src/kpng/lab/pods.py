"""The pods' servers: HTTP, TCP echo and UDP echo, over IPv4 and IPv6. ``python -m kpng.lab.pods --help``.

Every answer begins with (or is) a line of JSON that says which pod answers, at which of its addresses, and which
client address it saw, so that a probe knows where its packet went and how it was translated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from functools import partial

from .netns import Namespace
from .services import ECHO_TCP, ECHO_UDP, HTTP

MAX_REQUEST = 16384
READ_SECONDS = 10.0


def answer(pod: str, local: str, client: str) -> bytes:
    """The line of JSON that a pod answers with."""
    return json.dumps({"pod": pod, "address": local, "client": client}).encode() + b"\n"


async def serve(pod: str, namespace: Namespace, stack: AsyncExitStack) -> None:
    """Serve as ``pod`` inside its namespace until ``stack`` closes."""
    loop = asyncio.get_running_loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        for port, handler in ((HTTP, _http), (ECHO_TCP, _echo)):
            listener = namespace.call(partial(_bind, family, socket.SOCK_STREAM, port))
            server = await asyncio.start_server(partial(handler, pod), sock=listener)
            stack.callback(server.close)
        datagrams = namespace.call(partial(_bind, family, socket.SOCK_DGRAM, ECHO_UDP))
        transport, _ = await loop.create_datagram_endpoint(partial(_Datagrams, pod), sock=datagrams)
        stack.callback(transport.close)


def _bind(family: int, kind: int, port: int) -> socket.socket:
    bound = socket.socket(family, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind(("", port))
    return bound


async def _http(pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one HTTP/1.1 request, whatever it asks for, and close."""
    with closing(writer):
        try:
            async with asyncio.timeout(READ_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
            body = _greeting(pod, writer)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            return


async def _echo(pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet with the line of JSON, then send back whatever comes."""
    with closing(writer):
        try:
            writer.write(_greeting(pod, writer))
            while data := await reader.read(MAX_REQUEST):
                writer.write(data)
                await writer.drain()
        except OSError:
            return


def _greeting(pod: str, writer: asyncio.StreamWriter) -> bytes:
    return answer(pod, writer.get_extra_info("sockname")[0], writer.get_extra_info("peername")[0])


class _Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with the line of JSON and what the datagram held."""

    def __init__(self, pod: str) -> None:
        self._pod = pod
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        assert self._transport is not None
        local = self._transport.get_extra_info("sockname")[0]
        self._transport.sendto(answer(self._pod, local, address[0]) + data, address)


async def run(pods: Sequence[tuple[str, str]]) -> None:
    """Serve all pods (name, name of the namespace) until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        for pod, namespace in pods:
            await serve(pod, Namespace(namespace), stack)
        print("ready", flush=True)
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m kpng.lab.pods --pod web-1=kpng-lab-web-1 --pod web-2=kpng-lab-web-2``."""
    parser = argparse.ArgumentParser(prog="python -m kpng.lab.pods", description=__doc__)
    parser.add_argument(
        "--pod",
        action="append",
        required=True,
        metavar="NAME=NAMESPACE",
        help="serve as pod NAME inside the network namespace NAMESPACE (repeatable)",
    )
    options = parser.parse_args(arguments)
    pods = [pod.partition("=") for pod in options.pod]
    if any(not namespace for _, _, namespace in pods):
        parser.error("--pod takes NAME=NAMESPACE")
    asyncio.run(run([(name, namespace) for name, _, namespace in pods]))


if __name__ == "__main__":
    main()
