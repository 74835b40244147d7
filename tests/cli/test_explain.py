"""``kpng explain`` as a user has it: from files, and from a kpng API."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kpng.cli import explain_state
from kpng.model import IPSet, Node, ServiceKey, UserError
from kpng.server import ApiServer
from kpng.server.grpc import GrpcServer, ServerCall
from kpng.store import Kind, Store
from kpng.testing import endpoint_info, key, service
from kpng.wire.ops import LOCAL_WATCH, RESET

ROOT = Path(__file__).parents[2]
MANIFESTS = str(ROOT / "examples" / "manifests")
FROM_FILES = ("-i", MANIFESTS, "--node", "node-1", "--cluster-cidr", "10.1.0.0/16")


class Done(NamedTuple):
    code: int | None
    output: str
    errors: str


async def explain(*arguments: str, stdin: str = "") -> Done:
    """The command in a process of its own, while this loop goes on serving."""
    command = [sys.executable, "-m", "kpng", "explain", *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(30):
            output, errors = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
    return Done(process.returncode, output.decode(), errors.decode())


async def answer(*arguments: str, stdin: str = "") -> dict[str, Any]:
    """What it answers as a document. It says nothing beside."""
    done = await explain(*arguments, "--output", "json", stdin=stdin)
    assert (done.code, done.errors) == (0, "")
    found: dict[str, Any] = json.loads(done.output)
    return found


def endpoints(found: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(each["address"], each["masquerade"]) for each in found["endpoints"]]


# -- files -----------------------------------------------------------------------------------------


async def test_help_teaches() -> None:
    done = await explain("--help")
    assert done.code == 0
    before, _, options = done.output.partition("Options:")
    assert "kpng explain --from 10.1.1.7 --to 10.96.0.10:80" in before
    for option in (
        "--in-interface",
        "--detect-local-mode",
        "--nodeport-addresses",
        "--local-ips",
        "--service-cidrs",
    ):
        assert option in options
    for not_asked in ("--dry-run", "--hook-priority"):
        assert not_asked not in options


async def test_text_is_what_people_get() -> None:
    done = await explain(*FROM_FILES, "--from", "10.1.1.7", "--to", "10.96.0.10:80")
    assert (done.code, done.errors) == (0, "")
    assert done.output.splitlines()[:3] == [
        "tcp 10.1.1.7 -> 10.96.0.10:80 at node node-1",
        "  verdict    forwarded to one of 2 endpoints, each equally likely",
        "  to         10.1.1.5:8080  client's address kept, on this node",
    ]
    assert done.output.endswith("ready\n")


async def test_the_options_of_the_backend_decide() -> None:
    """An address outside is masqueraded on its way to a cluster IP, but not where nobody can be told from pods."""
    asked = ("-i", MANIFESTS, "--node", "node-1", "--from", "203.0.113.5", "--to", "10.96.0.10:80")
    for options, masquerade in (
        (("--cluster-cidr", "10.1.0.0/16,fd00::/8"), True),
        ((), False),
        (("--masquerade-all",), True),
        (("--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0"), True),
        (
            ("--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=ve", "--in-interface=ve1"),
            False,
        ),
    ):  # fmt: skip
        found = await answer(*asked, *options)
        assert endpoints(found) == [("10.1.1.5", masquerade), ("10.1.2.5", masquerade)], options


async def test_service_cidrs_beside_the_files() -> None:
    asked = (*FROM_FILES, "--from", "10.1.1.7", "--to", "10.96.7.7:80")
    assert (await answer(*asked))["verdict"] == "none"
    assert (await answer(*asked, "--service-cidrs", "10.96.0.0/16"))["verdict"] == "drop"


async def test_node_ports_need_to_know_the_nodes_addresses() -> None:
    asked = (*FROM_FILES, "--from", "203.0.113.5", "--to", "192.0.2.77:30080")
    unknown = await answer(*asked)
    assert unknown["verdict"] == "none"
    assert "not this node's address" in unknown["reason"]
    found = await answer(*asked, "--local-ips", "192.0.2.77, fd00::77")
    assert found["frontend"]["kind"] == "node_port"
    assert (await answer(*asked, "--local-ips", "192.0.2.77", "--nodeport-addresses", "primary"))[
        "verdict"
    ] == "none"


async def test_the_node_is_this_machine_unless_said_otherwise() -> None:
    """Then its own addresses are known, loopback too."""
    asked = ("-i", MANIFESTS, "--from", "127.0.0.1", "--to", "127.0.0.1:30080")
    found = await answer(*asked, "--localhost-nodeports")
    assert found["node"] == socket.gethostname().lower()
    assert found["sender"]["origin"] == "node"
    assert "the backend itself listens" in found["reason"]


async def test_an_unknown_node_is_a_hint_and_no_error() -> None:
    found = await answer("-i", MANIFESTS, "--node", "node-9", "--from", "10.1.1.7", "--to", "10.96.0.99:80")
    assert found["verdict"] == "reject"
    assert found["notes"] == [
        "nothing is known of a Node node-9: no pod CIDRs, and no addresses but those given",
    ]


async def test_standard_input() -> None:
    manifest = (ROOT / "examples" / "manifests" / "dns.yaml").read_text()
    found = await answer("-i", "-", "--node", "x", "--from", "10.1.1.7", "--to", "10.96.0.99:80", stdin=manifest)
    assert found["frontend"]["service"] == "demo/empty"


MISTAKES = [
    (("--from", "x", "--to", "10.96.0.1:80"), "--from: 'x' is not an IP address"),
    (("--from", "10.1.1.7", "--to", "10.96.0.1"), "--to: '10.96.0.1' has no port; write 10.96.0.1:80 for port 80"),
    (("--from", "10.1.1.7", "--to", "10.96.0.1:80", "--cluster-cidr", "x"), "--cluster-cidr: 'x' is not a CIDR"),
    (("--from", "10.1.1.7", "--to", "10.96.0.1:80", "--local-ips", "x"), "--local-ips: 'x' is not an IP address"),
    (
        ("--from", "10.1.1.7", "--to", "10.96.0.1:80", "--service-cidrs", "10.96.0.0/16"),
        "--service-cidrs goes with -i; an API tells its own",
    ),
    (
        ("--from", "10.1.1.7", "--to", "10.96.0.1:80", "-i", MANIFESTS, "--api", "127.0.0.1:1"),
        "--api and -i both say where the state comes from; leave one out",
    ),
    (("--from", "10.1.1.7", "--to", "10.96.0.1:80", "-i", "/nonexistent.yaml"), "/nonexistent.yaml: "),
    (
        ("--from", "10.1.1.7", "--to", "10.96.0.1:80", "--detect-local-mode", "BridgeInterface"),
        "--detect-local-mode BridgeInterface needs --pod-bridge-interface",
    ),
    (("--from", "10.1.1.7", "--to", "10.96.0.1:80", "--api", "nowhere"), 'address "nowhere" is neither host:port'),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
async def test_mistakes_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = await explain(*arguments)
    assert (done.code, done.output) == (2, "")
    assert done.errors.startswith(f"kpng: error: {message}")
    assert done.errors.count("\n") == 1


# -- the API ---------------------------------------------------------------------------------------


@pytest.fixture
def store() -> Store:
    """A service with an endpoint on each of two nodes, both hinted for their own."""
    filled = Store()
    with filled.transaction() as transaction:
        transaction.mark_synced(*Kind)
        transaction.set_service(service("demo/web", "10.96.0.1", ports="80:8080@30080"))
        transaction.set_source(
            "web-1",
            key("demo/web"),
            [
                endpoint_info(f"10.1.{number}.11", node=f"node-{number}", zone_hints=(f"zone-{number}",))
                for number in (1, 2)
            ],
        )
        for number in (1, 2):
            transaction.set_node(
                Node(name=f"node-{number}", zone=f"zone-{number}", addresses=IPSet.of([f"192.0.2.{number}"]))
            )
        transaction.set_service_cidrs("kubernetes", ("10.96.0.0/16",))
    return filled


@pytest.fixture
async def api(store: Store) -> AsyncIterator[str]:
    server = ApiServer(store)
    yield (await server.listen("tcp://127.0.0.1:0")).removeprefix("tcp://")
    await server.close()


@pytest.mark.parametrize("number", [1, 2])
async def test_the_api_tells_of_each_node(number: int, api: str) -> None:
    """Also why the others are left out, as it tells the global state too."""
    found = await answer(
        "--api", api, "--node", f"node-{number}", "--from", "203.0.113.5", "--to", f"192.0.2.{number}:30080"
    )
    assert endpoints(found) == [(f"10.1.{number}.11", True)]
    assert found["choice"] == f"ready, and hinted for this node's zone zone-{number} (KEP-2433)"
    other = 3 - number
    assert found["left_out"] == [
        {"address": f"10.1.{other}.11", "port": 8080, "why": f"hinted for zone zone-{other}"}
    ]
    assert found["notes"] == []


async def test_service_cidrs_come_from_the_api(api: str) -> None:
    found = await answer(
        "--api", api, "--node", "node-1", "--from", "10.1.1.7", "--to", "10.96.7.7", "--proto", "icmp"
    )
    assert (found["verdict"], found["reason"]) == ("drop", "in the service CIDR 10.96.0.0/16, and no cluster IP")


async def test_an_api_of_local_state_alone_by_a_unix_socket(store: Store, tmp_path: Path) -> None:
    server = ApiServer(store, global_api=False)
    address = await server.listen(f"unix://{tmp_path}/kpng.sock")
    try:
        found = await answer("--api", address, "--node", "node-1", "--from", "10.1.1.7", "--to", "10.96.0.1:80")
    finally:
        await server.close()
    assert endpoints(found) == [("10.1.1.11", False)]
    assert found["choice"] == "ready, as the kpng API chose them for this node"
    assert found["left_out"] is None


async def test_the_api_says_what_changed_since(store: Store, api: str) -> None:
    """It is asked anew each time; nothing is kept."""
    asked = ("--api", api, "--node", "node-1", "--from", "10.1.1.7", "--to", "10.96.0.1:80")
    assert (await answer(*asked))["verdict"] == "forward"
    with store.transaction() as transaction:
        transaction.delete_source("demo", "web-1")
    assert (await answer(*asked))["verdict"] == "reject"
    with store.transaction() as transaction:
        transaction.delete_service(ServiceKey("demo", "web"))
    assert (await answer(*asked))["verdict"] == "drop"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_no_api_there() -> None:
    address = f"127.0.0.1:{free_port()}"
    done = await explain("--api", address, "--from", "10.1.1.7", "--to", "10.96.0.1:80")
    assert (done.code, done.output) == (2, "")
    assert done.errors == (
        f"kpng: error: no kpng API at {address}: Connection refused; name one with --api, or files with -i\n"
    )


async def test_an_api_without_local_state(store: Store) -> None:
    server = ApiServer(store, local_api=False)
    address = (await server.listen("tcp://127.0.0.1:0")).removeprefix("tcp://")
    try:
        with pytest.raises(UserError, match=f"^no kpng API at {address}: .*/localv1.Sets/Watch"):
            await explain_state.known_from_api(address, None, "node-1")
    finally:
        await server.close()


async def test_something_else_listens_there() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        with pytest.raises(UserError, match=f"^no kpng API at {address}: ") as raised:
            await explain_state.known_from_api(address, None, "node-1")
    finally:
        server.close()
    assert "\n" not in str(raised.value)


async def test_an_api_that_has_no_state_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_state, "API_SECONDS", 0.2)
    server = ApiServer(Store())
    address = (await server.listen("tcp://127.0.0.1:0")).removeprefix("tcp://")
    try:
        with pytest.raises(UserError, match=r"no state within 0.2 s"):
            await explain_state.known_from_api(address, None, "node-1")
    finally:
        await server.close()


async def test_an_api_that_breaks_off() -> None:
    async def handler(call: ServerCall) -> None:
        await call.receive()
        await call.send([RESET])

    server = GrpcServer({LOCAL_WATCH: handler})
    address = await server.listen("tcp://127.0.0.1:0")
    try:
        with pytest.raises(UserError, match=f"^no kpng API at {address}: what it said broke off; name one"):
            await explain_state.known_from_api(address, None, "node-1")
    finally:
        await server.close()


async def test_the_example_in_the_documentation_is_true() -> None:
    lines = (ROOT / "docs" / "usage.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("    kpng explain --from 10."))
    words = lines[start].split()[2:]
    words[words.index("examples/manifests")] = MANIFESTS
    done = await explain(*words)
    told = done.output.splitlines()
    assert told == [line[4:] for line in lines[start + 2 :][: len(told)]]
    assert len(told) > 5
