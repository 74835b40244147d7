"""A backend at work on a manifest file, through file source, store and localize."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpng.backends import Backend
from kpng.conformance import session as module
from kpng.conformance.manifests import manifests, manifests_with_only
from kpng.conformance.session import NotAppliedError, session, watched, write
from kpng.model import ChangeSet, LocalService, ServiceKey, UserError

Make = Callable[..., Any]
WEB = ServiceKey("demo", "web")


class Notes(Backend):
    """Keeps the state it was given."""

    def __init__(self, *, faults: int = 0) -> None:
        self.faults = faults
        self.state: dict[ServiceKey, LocalService | None] = {}
        self.stopped = False

    async def apply(self, changes: ChangeSet) -> None:
        if self.faults:
            self.faults -= 1
            raise OSError("not now")
        self.state |= {key: change.new for key, change in changes.changes.items()}

    async def stop(self) -> None:
        self.stopped = True

    def targets(self) -> list[str]:
        local = self.state[WEB]
        assert local is not None
        return [address for each in local.endpoints.values() for address in each.addresses.v4]


class Forbidden(Notes):
    async def start(self) -> None:
        raise UserError("needs more rights")


def made(kind: type[Notes] = Notes, **options: Any) -> Any:
    return watched(kind)(**options)


async def test_the_state_is_applied_when_the_block_begins(tmp_path: Path, make_scenario: Make) -> None:
    backend = made()
    async with session(backend, tmp_path / "cluster.json", "node-a", manifests(make_scenario())):
        assert backend.targets() == ["10.1.0.1"]
        assert not backend.stopped
    assert backend.stopped
    assert len(asyncio.all_tasks()) == 1


async def test_an_empty_cluster_is_applied_too(tmp_path: Path, make_scenario: Make) -> None:
    content = manifests(make_scenario(services=[], endpointslices=[]))
    backend = made()
    async with session(backend, tmp_path / "cluster.json", "node-a", content):
        assert backend.state == {}
        assert backend.applied == 1


@pytest.mark.parametrize("counts", [True, False])
async def test_external_ips_may_not_count(tmp_path: Path, make_scenario: Make, counts: bool) -> None:
    service = {
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"clusterIP": "10.96.0.1", "externalIPs": ["198.18.0.1"]},
    }
    scenario = make_scenario(services=[service], node={"feature_gates": {"AllowServiceExternalIPs": counts}})
    assert scenario.node.external_ips is counts
    backend, content = made(), manifests(scenario)
    async with session(backend, tmp_path / "cluster.json", "node-a", content, external_ips=counts):
        assert backend.state[WEB].service.external_ips.v4 == (("198.18.0.1",) if counts else ())


async def test_a_change_is_waited_for(tmp_path: Path, make_scenario: Make) -> None:
    scenario, backend = make_scenario(), made()
    before = manifests_with_only(scenario, "10.1.0.7:8080")
    async with session(backend, tmp_path / "cluster.json", "node-a", before) as running:
        assert backend.targets() == ["10.1.0.7"]
        await running.change(manifests(scenario))
        assert backend.targets() == ["10.1.0.1"]


async def test_a_backend_that_recovers_is_waited_for(tmp_path: Path, make_scenario: Make) -> None:
    backend = made(faults=1)
    async with session(backend, tmp_path / "cluster.json", "node-a", manifests(make_scenario())):
        assert backend.targets() == ["10.1.0.1"]
        assert backend.fault == "OSError: not now"


async def test_a_backend_that_fails_on_is_told(
    tmp_path: Path, make_scenario: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "APPLY_SECONDS", 0.3)
    backend = made(faults=1000)
    with pytest.raises(NotAppliedError, match=r"^OSError: not now$"):
        async with session(backend, tmp_path / "cluster.json", "node-a", manifests(make_scenario())):
            pytest.fail("nothing was applied")
    assert backend.stopped


async def test_a_change_that_changes_nothing_is_told(
    tmp_path: Path, make_scenario: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = manifests(make_scenario())
    async with session(made(), tmp_path / "cluster.json", "node-a", content) as running:
        monkeypatch.setattr(module, "APPLY_SECONDS", 0.3)
        with pytest.raises(NotAppliedError, match=r"^nothing applied within 0\.3 s$"):
            await running.change(content)


async def test_what_the_user_can_mend_comes_out(tmp_path: Path, make_scenario: Make) -> None:
    with pytest.raises(UserError, match="needs more rights"):
        async with session(made(Forbidden), tmp_path / "cluster.json", "node-a", manifests(make_scenario())):
            pytest.fail("it did not start")


def test_a_watched_backend_is_still_itself() -> None:
    kind = watched(Notes)
    assert kind.__name__ == "Notes"
    assert issubclass(kind, Notes)
    assert kind.options == Notes.options


def test_nothing_else_is_left_beside_the_manifest(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / "cluster.json", {"items": number})
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.json"]
    assert (tmp_path / "cluster.json").read_text() == '{"items": 1}'
