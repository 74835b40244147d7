"""L1, L6: which Services want a health check, and what is counted."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kpng.health import HealthChecks, ready_local_endpoints
from kpng.localize import localize
from kpng.model import FAMILIES, ChangeSet, Endpoint, LocalService
from kpng.store import Store
from kpng.testing import change_set, endpoint, endpoint_info, full_state, key, local_service, service

V4, V6 = FAMILIES


def checked(name: str, port: int, *endpoints: Endpoint) -> LocalService:
    return local_service(service(name, "10.96.0.1", health_check_node_port=port), *endpoints)


def leaving(address: str) -> Endpoint:
    """It still serves, and is used because no other here is ready."""
    return replace(endpoint(address, local=True), terminating=True)


A, B = "10.244.0.1", "10.244.0.2"
COUNTS: dict[str, tuple[list[Endpoint], int, int]] = {
    "none": ([], 0, 0),
    "here": ([endpoint(A, local=True)], 1, 0),
    "elsewhere": ([endpoint(A)], 0, 0),
    "inside only": ([endpoint(A, local=True, external=False)], 0, 0),
    "outside only": ([endpoint(A, local=True, internal=False)], 1, 0),
    "several": ([endpoint(A, local=True), endpoint(B, local=True)], 2, 0),
    "one address, two ports": ([endpoint(A, local=True, port=1), endpoint(A, local=True, port=2)], 1, 0),
    "only terminating": ([leaving(A)], 0, 0),
    "ready and terminating": ([endpoint(A, local=True), leaving(B)], 1, 0),
    "L11 each family counts for itself": (
        [endpoint(A, "fd00::1", local=True), endpoint("fd00::2", local=True)],
        1,
        2,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_l6_what_is_counted(name: str) -> None:
    endpoints, v4, v6 = COUNTS[name]
    local = checked("ns/web", 32000, *endpoints)
    assert ready_local_endpoints(local, V4) == v4
    assert ready_local_endpoints(local, V6) == v6


def wanted(checks: HealthChecks) -> dict[str, tuple[int, int]]:
    return {str(name): (check.port, check.local_endpoints[V4]) for name, check in checks.wanted.items()}


def test_l1_only_services_with_a_port() -> None:
    checks = HealthChecks()
    checks.apply(full_state(checked("ns/web", 32000, endpoint(A, local=True)), checked("ns/plain", 0)))
    assert wanted(checks) == {"ns/web": (32000, 1)}


def test_changes_are_followed() -> None:
    checks = HealthChecks()
    one, two = checked("ns/web", 32000), checked("ns/web", 32000, endpoint(A, local=True))
    checks.apply(full_state(one))
    checks.apply(change_set([one], [two]))
    assert wanted(checks) == {"ns/web": (32000, 1)}
    moved = checked("ns/web", 32001, endpoint(A, local=True))
    checks.apply(change_set([two], [moved]))
    assert wanted(checks) == {"ns/web": (32001, 1)}
    without = checked("ns/web", 0)
    checks.apply(change_set([moved], [without]))
    assert wanted(checks) == {}
    checks.apply(change_set([without], [moved]))
    checks.apply(change_set([moved], []))
    assert wanted(checks) == {}


def test_a_full_state_forgets_what_was() -> None:
    checks = HealthChecks()
    checks.apply(full_state(checked("ns/old", 32000)))
    checks.apply(full_state(checked("ns/new", 32001)))
    assert list(checks.wanted) == [key("ns/new")]
    checks.apply(ChangeSet({}))
    assert list(checks.wanted) == [key("ns/new")]


def test_whether_ports_change_is_told() -> None:
    checks = HealthChecks()
    one, two = checked("ns/web", 32000), checked("ns/web", 32000, endpoint(A, local=True))
    moved = checked("ns/web", 32001)
    assert checks.apply(full_state(one))
    assert not checks.apply(change_set([one], [two])), "only the count"
    assert not checks.apply(change_set([], [checked("ns/plain", 0)]))
    assert checks.apply(change_set([two], [moved]))
    assert not checks.apply(full_state(moved))
    assert checks.apply(full_state())


def test_l6_an_endpoint_that_begins_to_terminate_counts_no_more() -> None:
    """As upstream's TestHealthCheckNodePortWhenTerminating; from the cluster's endpoints on."""
    counts = []
    for ready in (True, False):
        store = Store()
        with store.transaction() as staged:
            staged.set_service(
                service("ns/web", "10.96.0.1", health_check_node_port=32000, external_traffic_local=True)
            )
            info = endpoint_info(A, node="n", ready=ready, serving=True, terminating=not ready)
            staged.set_source("web-1", key("ns/web"), [info])
        local = localize(store.snapshot.services[key("ns/web")], "n", "")
        assert local is not None
        assert len(local.endpoints) == 1, "traffic is accepted all the same"
        counts.append(ready_local_endpoints(local, V4))
    assert counts == [1, 0]
