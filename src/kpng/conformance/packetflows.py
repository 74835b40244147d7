"""The run: each scenario in turn through the whole of kpng, with real packets."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from kpng.backends import Backend
from kpng.lab.netns import Namespace

from .arguments import arguments, construct
from .attempts import Seen
from .flows import Flow, Object, Scenario
from .manifests import manifests, manifests_with_only
from .results import NEVER, ByDesign, Result, as_expected, expected_text, missing, seen_text
from .rig import Rig
from .session import NotAppliedError, Session, session, watched

Progress = Callable[[int, Sequence[Result]], None]
"""Told how many scenarios are done, and the results of the last one."""

_ONCE = 1
_MORE_ROUNDS = 6
_PER_ENDPOINT = 4
"""An endpoint that is balanced over stays unseen in all of them once in 10**10 flows."""


async def run_scenarios(
    namespace: Namespace, name: str, backend: type[Backend], scenarios: Sequence[Scenario], progress: Progress
) -> list[Result]:
    """Replay the scenarios against the backend ``name``. Call in an event loop whose thread is in the namespace."""
    results: list[Result] = []
    rig = Rig(namespace)
    try:
        with tempfile.TemporaryDirectory(prefix="kpng-conformance-") as folder:
            replay = Replay(rig, name, backend, Path(folder))
            for number, scenario in enumerate(scenarios, 1):
                found = await replay.scenario(scenario)
                results += found
                progress(number, found)
    finally:
        rig.close()
    return results


class Replay:
    """One backend on one rig."""

    def __init__(self, rig: Rig, name: str, backend: type[Backend], folder: Path) -> None:
        self._rig = rig
        self._backend = backend
        self._watched = watched(backend)
        self._manifest = folder / "cluster.json"
        self._by_design = ByDesign.of(name)

    async def scenario(self, scenario: Scenario) -> list[Result]:
        """Its flows' results, in their order. A flow with a precondition gets a node of its own, so that it finds
        nothing but that; the others share one."""
        shared = [flow for flow in scenario.flows if flow.precondition is None]
        together = iter(await self._together(scenario, shared))
        results = []
        for flow in scenario.flows:
            alone = flow.precondition and await self._after(scenario, flow, flow.precondition.client_last_sent_to)
            results.append(self._result(scenario, flow, alone or next(together)))
        return results

    async def _together(self, scenario: Scenario, flows: Sequence[Flow]) -> list[list[Seen]]:
        if not flows:
            return []
        try:
            async with self._session(scenario, manifests(scenario)):
                return await self._send(flows, balanced=not _has_affinity(scenario))
        except NotAppliedError as error:
            return [[Seen(f"not applied: {error}")]] * len(flows)
        finally:
            await self._backend.cleanup()

    async def _after(self, scenario: Scenario, flow: Flow, endpoint: str) -> list[Seen]:
        """Send the client to this endpoint, while there is no other; then let the cluster be as it should."""
        try:
            async with self._session(scenario, manifests_with_only(scenario, endpoint)) as running:
                (before,) = await self._rig.send([flow], lambda *_: False, _ONCE)
                if {seen.endpoint for seen in before} != {endpoint}:
                    return [Seen(f"not sent to {endpoint} before, but {seen_text(before)}")]
                await running.change(manifests(scenario))
                return (await self._send([flow], balanced=False))[0]
        except NotAppliedError as error:
            return [Seen(f"not applied: {error}")]
        finally:
            await self._backend.cleanup()

    def _session(self, scenario: Scenario, content: Object) -> AbstractAsyncContextManager[Session]:
        self._rig.become(scenario.node, scenario.devices)
        backend = construct(self._watched, arguments(scenario.node, self._backend))
        node = scenario.node
        return session(backend, self._manifest, node.name, content, external_ips=node.external_ips)

    async def _send(self, flows: Sequence[Flow], *, balanced: bool) -> list[list[Seen]]:
        """Send the flows; where connections are ``balanced``, until each endpoint has been hit."""
        seen = await self._rig.send(flows, _as_expected)
        for _ in range(_MORE_ROUNDS if balanced else 0):
            unfinished = [(flow, each) for flow, each in zip(flows, seen, strict=True) if _unseen(flow, each)]
            if not unfinished:
                break
            attempts = _PER_ENDPOINT * max(len(flow.expect.dnat_to) for flow, _ in unfinished)
            more = await self._rig.send([flow for flow, _ in unfinished], _as_expected, attempts)
            for (_, each), found in zip(unfinished, more, strict=True):
                each.extend(found)
        if balanced:
            for flow, each in zip(flows, seen, strict=True):
                each += [Seen(NEVER, endpoint) for endpoint in _unseen(flow, each)]
        return seen

    def _result(self, scenario: Scenario, flow: Flow, seen: Sequence[Seen]) -> Result:
        texts = expected_text(flow.expect), seen_text(seen)
        return self._by_design.judge(scenario.name, flow.name, *texts, passed=_as_expected(flow, seen))


def _as_expected(flow: Flow, seen: Sequence[Seen]) -> bool:
    return as_expected(flow.expect, seen)


def _unseen(flow: Flow, seen: Sequence[Seen]) -> list[str]:
    """The endpoints that are still to be hit; none once something has gone wrong."""
    return missing(flow.expect, seen) if _as_expected(flow, seen) else []


def _has_affinity(scenario: Scenario) -> bool:
    return any(service.get("spec", {}).get("sessionAffinity") == "ClientIP" for service in scenario.services)
