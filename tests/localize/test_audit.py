from __future__ import annotations

import asyncio

import pytest

from kpng.localize import Auditor
from kpng.model import ProblemLog, Service
from kpng.store import Kind, Store
from kpng.testing import endpoint_info, key, service


class Audited:
    """A store whose auditor has seen every transaction."""

    def __init__(self) -> None:
        self.store = Store()
        self.problems = ProblemLog()
        self.auditor = Auditor(self.store, self.problems)

    def set(self, *services: Service, **ports: dict[str, int]) -> list[str]:
        """Set services, and for each name given a source with one endpoint that has these ports."""
        with self.store.transaction() as staged:
            for of in services:
                staged.set_service(of)
            for name, offered in ports.items():
                staged.set_source(name, key(f"demo/{name}"), [endpoint_info("10.1.0.1", port=offered)])
        return self.look()

    def delete(self, *names: str) -> list[str]:
        with self.store.transaction() as staged:
            for name in names:
                staged.delete_service(key(name))
        return self.look()

    def look(self) -> list[str]:
        self.auditor.advance(self.store.snapshot)
        return [str(problem) for problem in self.problems.current]


@pytest.fixture
def audited() -> Audited:
    return Audited()


def test_all_well(audited: Audited) -> None:
    assert audited.set(service("demo/a", "10.96.0.1"), service("demo/b", "10.96.0.2", "fd00::2")) == []


def test_a_cluster_ip_used_twice_names_both(audited: Audited) -> None:
    audited.set(service("demo/b", "10.96.0.1"))
    assert audited.set(service("demo/c", "10.96.0.1")) == [
        "Service demo/c: spec.clusterIPs: 10.96.0.1 is also the cluster IP of Service demo/b, which keeps it"
    ]
    assert audited.problems.total == 1


def test_the_first_by_name_keeps_it_whoever_came_first(audited: Audited) -> None:
    audited.set(service("demo/b", "10.96.0.1"))
    (problem,) = audited.set(service("demo/a", "10.96.0.1"))
    assert problem.startswith("Service demo/b:")


def test_the_next_takes_over_when_the_first_is_gone(audited: Audited) -> None:
    audited.set(*(service(f"demo/{name}", "10.96.0.1") for name in "abc"))
    assert len(audited.problems) == 2
    (problem,) = audited.delete("demo/a")
    assert problem == (
        "Service demo/c: spec.clusterIPs: 10.96.0.1 is also the cluster IP of Service demo/b, which keeps it"
    )
    assert audited.delete("demo/b") == []


def test_mended_by_another_address(audited: Audited) -> None:
    audited.set(service("demo/a", "10.96.0.1"), service("demo/b", "10.96.0.1"))
    assert audited.set(service("demo/a", "10.96.0.9")) == []


def test_swapped_in_one_transaction(audited: Audited) -> None:
    audited.set(service("demo/a", "10.96.0.1"), service("demo/b", "10.96.0.2"))
    assert audited.set(service("demo/a", "10.96.0.2"), service("demo/b", "10.96.0.1")) == []


def test_each_family_counts(audited: Audited) -> None:
    found = audited.set(service("demo/a", "10.96.0.1", "fd00::1"), service("demo/b", "10.96.0.2", "fd00::1"))
    assert len(found) == 1
    assert "fd00::1" in found[0]


def test_a_deleted_service_takes_its_problems_with_it(audited: Audited) -> None:
    audited.set(service("demo/a", "10.96.0.1"), service("demo/b", "10.96.0.1"))
    assert audited.delete("demo/b") == []
    assert audited.delete("demo/a") == []
    assert audited.auditor._owners == {}


def test_services_without_addresses_share_nothing(audited: Audited) -> None:
    assert audited.set(service("demo/a"), service("demo/b")) == []


def test_a_named_port_that_no_endpoint_has(audited: Audited) -> None:
    of = service("demo/web", "10.96.0.1", ports="http=80 metrics=9090")
    assert audited.set(of, web={"http": 8080, "metrix": 9090}) == [
        "Service demo/web: spec.ports[1].name: no endpoint has a port named 'metrics' (TCP)"
    ]
    assert audited.set(web={"http": 8080, "metrics": 9090}) == []


def test_a_port_of_another_protocol_is_not_it(audited: Audited) -> None:
    (problem,) = audited.set(service("demo/web", ports="dns=53/UDP"), web={"dns": 53})
    assert problem.endswith("no endpoint has a port named 'dns' (UDP)")


def test_no_endpoints_yet_is_no_problem(audited: Audited) -> None:
    assert audited.set(service("demo/web", ports="http=80")) == []


def test_only_what_changed_is_looked_at(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    audited.set(*(service(f"demo/s{number}", f"10.96.0.{number}") for number in range(100)))
    reported: list[str] = []
    report = audited.problems.report
    monkeypatch.setattr(
        audited.problems, "report", lambda subject, found: (reported.append(subject), report(subject, found))
    )
    audited.set(service("demo/s7", "10.96.0.8"))
    assert sorted(reported) == ["audit demo/s7", "audit demo/s8"]


async def test_it_follows_the_store(audited: Audited) -> None:
    running = asyncio.create_task(audited.auditor.run())
    with audited.store.transaction() as staged:
        staged.mark_synced(*Kind)
        staged.set_service(service("demo/a", "10.96.0.1"))
        staged.set_service(service("demo/b", "10.96.0.1"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(audited.problems) == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
