"""Several brains: any will do, another one when it fails, and a move when it asks for it, without a gap."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.client.brain import PATIENCE, a_store, listening, serving, told

from kpng.client import ask_local, link, moves, rounds, watch_local
from kpng.client.servers import Servers
from kpng.model import ChangeSet, ServiceKey
from kpng.server._connection import ServerConnection
from kpng.server.grpc import GrpcServer, ServerCall
from kpng.store import Kind, Store
from kpng.testing import key, service
from kpng.wire.batch import LOCAL_WATCH_BATCHES, RESET_BATCH, sync_batch
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.ops import LOCAL_WATCH, RESET

WEB, API = key("demo/web"), key("demo/api")


@pytest.fixture(autouse=True)
def _no_long_waits(no_long_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "STEADY_SECONDS", 0.0)


@pytest.fixture
def addresses(tmp_path: Path) -> list[str]:
    return [f"unix://{tmp_path}/{name}.sock" for name in "abc"]


def put(store: Store, name: str) -> None:
    with store.transaction() as transaction:
        transaction.set_service(service(f"demo/{name}"))


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


def names(changes: ChangeSet) -> set[ServiceKey]:
    return set(changes.changes)


# -- picking and failing -------------------------------------------------------------------------------------


async def test_watchers_spread(addresses: list[str]) -> None:
    async with AsyncExitStack() as stack:
        stores = [a_store("web"), a_store("web")]
        both = zip(stores, addresses, strict=False)
        servers = [await stack.enter_async_context(serving(*each)) for each in both]
        for _ in range(40):
            changes = await stack.enter_async_context(aclosing(watch_local(",".join(addresses[:2]), "n1")))
            await told(changes)
        shares = [server.local_sets.watchers for server in servers]
    assert sum(shares) == 40
    assert min(shares) >= 5  # less is less likely than one in a million


async def test_where_one_is_away_the_other_is_asked_at_once(
    addresses: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "kpng.client")
    monkeypatch.setattr(link, "FIRST_RETRY_SECONDS", 1000.0)
    async with serving(a_store("web"), addresses[1]):
        for _ in range(10):
            async with aclosing(watch_local(",".join(addresses), "n1")) as changes:
                assert (await told(changes)).full
            assert names(await ask_local(",".join(addresses), "n1")) == {WEB}
    assert {record.getMessage() for record in caplog.records} == {f"connected to {addresses[1]}"}


async def test_the_loss_of_a_brain_is_no_change(addresses: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """The other one is another instance and tells everything, of which nothing is handed on."""
    caplog.set_level(logging.INFO, "kpng.client")
    stores = [a_store("web", "api"), a_store("web", "api")]
    async with AsyncExitStack() as stack:
        watch = watch_local(",".join(addresses[:2]), "n1")
        changes = await stack.enter_async_context(aclosing(watch))
        brains = [serving(store, address) for store, address in zip(stores, addresses, strict=False)]
        servers = [await brain.__aenter__() for brain in brains]
        assert names(await told(changes)) == {WEB, API}
        used = 0 if servers[0].local_sets.watchers else 1
        coming = asyncio.ensure_future(told(changes))
        await asyncio.sleep(0.01)
        await brains[used].__aexit__(None, None, None)
        await until(lambda: servers[1 - used].local_sets.watchers == 1)
        await asyncio.sleep(0.1)
        assert not coming.done()
        put(stores[1 - used], "new")
        change = await coming
        assert (change.full, names(change)) == (False, {key("demo/new")})
        await brains[1 - used].__aexit__(None, None, None)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == f"connected to {addresses[used]}"
    assert lines[1].startswith((f"{addresses[used]} ended the watch: ", f"connection to {addresses[used]} lost: "))
    assert lines[2] == f"connected to {addresses[1 - used]}"


async def test_two_that_fail_after_each_round_are_asked_at_a_pace(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer costs them a whole state: going to and fro between them without a pause would keep them down."""
    monkeypatch.setattr(rounds, "STEADY_SECONDS", 5.0)
    monkeypatch.setattr(link, "FIRST_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(link, "LAST_RETRY_SECONDS", 10.0)
    calls = []

    async def answer_and_fail(call: ServerCall) -> None:
        calls.append(call)
        await call.receive()
        await call.send([RESET_BATCH, sync_batch("x", len(calls))])
        raise GrpcError(GrpcStatus.UNAVAILABLE, "as the test wants it")

    async with AsyncExitStack() as stack:
        for address in addresses[:2]:
            await stack.enter_async_context(listening(GrpcServer({LOCAL_WATCH_BATCHES: answer_and_fail}), address))
        changes = await stack.enter_async_context(aclosing(watch_local(",".join(addresses[:2]), "n1")))
        await told(changes)
        coming = asyncio.ensure_future(told(changes))
        await asyncio.sleep(0.5)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    assert 4 <= len(calls) <= 12, len(calls)


async def test_when_all_are_away_all_are_waited_for(addresses: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async with aclosing(watch_local(",".join(addresses), "n1")) as changes:
        coming = asyncio.ensure_future(told(changes))
        await asyncio.sleep(0.2)
        assert caplog.records, "that nobody is there is told"
        count = len(caplog.records)
        await asyncio.sleep(0.2)
        assert len(caplog.records) <= len(addresses) >= count, "but once"
        async with serving(a_store("web"), addresses[2]):
            assert (await coming).full


async def test_asking_once_tells_why_nobody_answered(addresses: list[str]) -> None:
    with pytest.raises(ConnectionError, match="No such file"):
        await ask_local(",".join(addresses), "n1")


# -- one that is there, but has nothing to tell --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["incomplete", "mute", "reset only"])
async def test_a_brain_without_a_state_is_left_for_one_that_has_one(
    addresses: list[str], kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rounds, "FIRST_ROUND_SECONDS", 0.25)
    caplog.set_level(logging.INFO, "kpng.client")

    async def mute(call: ServerCall) -> None:
        await call.receive()
        if kind == "reset only":
            await call.send([RESET if call.path == LOCAL_WATCH else RESET_BATCH])
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        if kind == "incomplete":
            await stack.enter_async_context(serving(a_store("web", complete=False), addresses[0]))
        else:
            silent = GrpcServer({LOCAL_WATCH: mute, LOCAL_WATCH_BATCHES: mute})
            await stack.enter_async_context(listening(silent, addresses[0]))
        await stack.enter_async_context(serving(a_store("api"), addresses[1]))
        for _ in range(30):  # which of them is asked first is left to chance
            async with aclosing(watch_local(",".join(addresses[:2]), "n1")) as changes:
                assert names(await told(changes)) == {API}
            assert names(await ask_local(",".join(addresses[:2]), "n1")) == {API}
            if "asking another" in caplog.text:
                break
    lines = {record.getMessage() for record in caplog.records}
    assert lines <= {
        f"connected to {addresses[1]}",
        f"{addresses[0]} has nothing to tell yet, asking another: no state within 0.25 s",
    }
    assert len(lines) == 2


async def test_the_only_one_is_not_left(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "FIRST_ROUND_SECONDS", 0.02)
    store = a_store("web", complete=False)
    async with serving(store, addresses[0]) as server, aclosing(watch_local(addresses[0], "n1")) as changes:
        coming = asyncio.ensure_future(told(changes))
        await until(lambda: server.local_sets.watchers == 1)
        (watcher,) = server.local_sets._watchers
        await asyncio.sleep(0.2)
        assert set(server.local_sets._watchers) == {watcher}
        with store.transaction() as transaction:
            transaction.mark_synced(*Kind)
        assert names(await coming) == {WEB}


async def test_what_is_known_stays_while_nobody_has_anything_to_tell(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The brain has failed, and the other one is just starting: what the node does is not touched."""
    monkeypatch.setattr(rounds, "FIRST_ROUND_SECONDS", 0.02)
    starting = a_store("web", "api", complete=False)
    async with aclosing(watch_local(",".join(addresses[:2]), "n1")) as changes:
        async with serving(a_store("web", "api"), addresses[0]):
            assert names(await told(changes)) == {WEB, API}
            coming = asyncio.ensure_future(told(changes))
            await asyncio.sleep(0.01)
        async with serving(starting, addresses[1]):
            await asyncio.sleep(0.2)
            assert not coming.done()
            with starting.transaction() as transaction:
                transaction.mark_synced(*Kind)
                transaction.delete_service(API)
            change = await coming
    assert {name: bool(each.new) for name, each in change.changes.items()} == {API: False}


# -- moving when asked to ------------------------------------------------------------------------------------


async def test_an_old_connection_is_left_without_a_gap(
    addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Many ages go by while changes are made: each arrives, once, in order, and nothing is told twice."""
    caplog.set_level(logging.INFO, "kpng.client")
    store = a_store()
    aging = {"max_connection_age_seconds": 0.03, "max_connection_age_grace_seconds": 5.0}
    async with (
        serving(store, addresses[0], **aging) as server,
        aclosing(watch_local(addresses[0], "n1")) as changes,
    ):
        assert (await told(changes)).full
        for number in range(60):
            put(store, f"svc-{number}")
            change = await told(changes)
            assert (change.full, names(change)) == (False, {key(f"demo/svc-{number}")})
            await asyncio.sleep(0.005)
        await until(lambda: server.local_sets.watchers <= 2)
    lines = [record.getMessage() for record in caplog.records]
    moved = [line for line in lines if line.startswith("moved from")]
    assert len(moved) >= 5
    assert set(lines) - set(moved) == {f"connected to {addresses[0]}"}, "no connection was lost"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[ServerConnection]:
    """All that are made to servers."""
    seen: list[ServerConnection] = []
    made = ServerConnection.connection_made

    def counted(connection: ServerConnection, transport: asyncio.BaseTransport) -> None:
        seen.append(connection)
        made(connection, transport)

    monkeypatch.setattr(ServerConnection, "connection_made", counted)
    return seen


async def test_one_that_keeps_nobody_is_not_hammered(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch, connections: list[ServerConnection]
) -> None:
    """It accepts, and wants us to go at once, as a proxy may that drains; each move costs a round."""
    monkeypatch.setattr(moves, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(moves, "LAST_PAUSE_SECONDS", 10.0)
    async with (
        serving(a_store("web"), addresses[0], max_connection_age_seconds=0.001),
        aclosing(watch_local(addresses[0], "n1")) as changes,
    ):
        await told(changes)
        coming = asyncio.ensure_future(told(changes))
        await asyncio.sleep(1)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    assert 3 <= len(connections) <= 7, "each pause is longer than the one before"


async def test_changes_do_not_wait_until_one_may_move(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch, connections: list[ServerConnection]
) -> None:
    monkeypatch.setattr(moves, "FIRST_PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(moves, "LAST_PAUSE_SECONDS", 1000.0)
    store = a_store("web")
    async with (
        serving(store, addresses[0], max_connection_age_seconds=0.001) as server,
        aclosing(watch_local(addresses[0], "n1")) as changes,
    ):
        await told(changes)
        for name in ("api", "db", "cache"):
            coming = asyncio.ensure_future(told(changes))
            await until(lambda: len(connections) == 2 and server.local_sets.watchers == 1)
            put(store, name)
            assert names(await coming) == {key(f"demo/{name}")}
    assert len(connections) == 2


async def test_who_moves_goes_on_where_it_was(addresses: list[str]) -> None:
    """The same instance is asked for the difference, which is nothing: one state in the whole life."""
    store, whole = a_store("web"), 0
    async with (
        serving(store, addresses[0], max_connection_age_seconds=0.05) as server,
        aclosing(watch_local(addresses[0], "n1")) as changes,
    ):
        original = server.local_sets.batches.whole

        async def counted(*arguments: Any) -> Any:
            nonlocal whole
            whole += 1
            return await original(*arguments)

        server.local_sets.batches.whole = counted  # type: ignore[method-assign]
        await told(changes)
        coming = asyncio.ensure_future(told(changes))
        seen = set()
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 4:
                seen |= set(server.local_sets._watchers)
                await asyncio.sleep(0.01)
        assert not coming.done()
        put(store, "api")
        assert names(await coming) == {API}
    assert whole == 1


async def test_a_move_to_another_brain_is_no_change(addresses: list[str]) -> None:
    stores = [a_store("web"), a_store("web")]
    async with (
        serving(stores[0], addresses[0], max_connection_age_seconds=0.05) as old,
        serving(stores[1], addresses[1]) as new,
        aclosing(watch_local(",".join(addresses[:2]), "n1")) as changes,
    ):
        await told(changes)
        coming = asyncio.ensure_future(told(changes))
        await until(lambda: new.local_sets.watchers == 1 and old.local_sets.watchers == 0)
        assert not coming.done()
        put(stores[1], "api")
        assert names(await coming) == {API}


async def test_where_there_is_nowhere_to_go_the_old_one_is_used_to_the_end(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has stopped listening, or the name leads nowhere: rounds of the old connection still count."""
    monkeypatch.setattr(moves, "AGAIN_SECONDS", 0.02)
    store, path = a_store("web"), addresses[0].removeprefix("unix://")
    aging = {"max_connection_age_seconds": 0.05, "max_connection_age_grace_seconds": 60.0}
    async with serving(store, addresses[0], **aging), aclosing(watch_local(addresses[0], "n1")) as changes:
        await told(changes)
        os.rename(path, f"{path}.away")
        coming = asyncio.ensure_future(told(changes))
        await asyncio.sleep(0.2)
        for name in ("api", "db", "cache"):
            put(store, name)
            assert names(await coming) == {key(f"demo/{name}")}
            coming = asyncio.ensure_future(told(changes))
            await asyncio.sleep(0.03)
        os.rename(f"{path}.away", path)
        await asyncio.sleep(0.1)
        put(store, "last")
        assert names(await coming) == {key("demo/last")}


async def test_a_round_of_the_old_one_does_not_wait_for_a_new_one_that_is_silent(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "PREFER_NEW_SECONDS", 0.05)
    good = a_store("web")
    aging = {"max_connection_age_seconds": 0.05, "max_connection_age_grace_seconds": 60.0}
    async with (
        serving(good, addresses[0], **aging),
        aclosing(watch_local(",".join(addresses[:2]), "n1")) as changes,
    ):
        await told(changes)
        async with serving(a_store("web", complete=False), addresses[1]):
            pick = Servers.pick
            monkeypatch.setattr(Servers, "pick", lambda _: pick(Servers(addresses[1])))  # it is to move there
            coming = asyncio.ensure_future(told(changes))
            await asyncio.sleep(0.15)
            put(good, "api")
            assert names(await asyncio.wait_for(coming, 1)) == {API}


async def test_a_watch_that_ends_while_moving_leaves_nothing_behind(addresses: list[str]) -> None:
    store = a_store("web")
    for wait in (0.04, 0.05, 0.051, 0.052, 0.055, 0.06, 0.08):
        async with serving(store, addresses[0], max_connection_age_seconds=0.05) as server:
            async with aclosing(watch_local(addresses[0], "n1")) as changes:
                await told(changes)
                coming = asyncio.ensure_future(told(changes))
                await asyncio.sleep(wait)
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            await until(lambda server=server: server._server.connection_count == 0)


async def test_a_watch_may_end_at_any_step_of_a_move(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at that where the new session is there and nobody has it yet."""
    begun = asyncio.Event()
    attempt = moves.Moves.attempt
    monkeypatch.setattr(moves.Moves, "attempt", lambda self, now: (attempt(self, now), begun.set()))
    store = a_store("web")
    for steps in range(40):
        async with serving(store, addresses[0], max_connection_age_seconds=0.005) as server:
            async with aclosing(watch_local(addresses[0], "n1")) as changes:
                await told(changes)
                begun.clear()
                coming = asyncio.ensure_future(anext(changes))
                await begun.wait()
                for _ in range(steps):
                    await asyncio.sleep(0)
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            await until(lambda server=server: server._server.connection_count == 0)


async def test_clients_that_cannot_move_are_cut_after_the_grace(addresses: list[str]) -> None:
    """The consumer is busy: it asks for nothing, and so it does not move; later it comes back, and goes on."""
    store = a_store("web")
    aging = {"max_connection_age_seconds": 0.05, "max_connection_age_grace_seconds": 0.05}
    async with (
        serving(store, addresses[0], **aging) as server,
        aclosing(watch_local(addresses[0], "n1")) as changes,
    ):
        await told(changes)
        await until(lambda: server._server.connection_count == 0)
        put(store, "api")
        change = await told(changes)
        assert (change.full, names(change)) == (False, {API})
