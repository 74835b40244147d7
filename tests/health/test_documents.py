"""L5, M2: bodies to the byte."""

from __future__ import annotations

import json

import pytest

from kpng.health.documents import proxy_document, service_document, timestamp
from kpng.health.state import FamilyHealth, Report
from kpng.model import Family, ServiceKey

TIMES = {
    0.0: "1970-01-01T00:00:00Z",
    1_795_000_000.0: "2026-11-18T11:06:40Z",
    1_795_000_000.5: "2026-11-18T11:06:40.5Z",
    1_795_000_000.000250: "2026-11-18T11:06:40.00025Z",
    1_795_000_000.999999: "2026-11-18T11:06:40.999999Z",
}


@pytest.mark.parametrize("seconds", TIMES)
def test_times_are_written_as_go_does(seconds: float) -> None:
    assert timestamp(seconds) == TIMES[seconds]


def test_l5_the_body_of_a_service() -> None:
    assert service_document(ServiceKey("ns1", "web"), 1, healthy=True) == (
        '{\n\t"service": {\n\t\t"namespace": "ns1",\n\t\t"name": "web"\n\t},\n'
        '\t"localEndpoints": 1,\n\t"serviceProxyHealthy": true\n}'
    )
    assert '"localEndpoints": 0,\n\t"serviceProxyHealthy": false\n}' in service_document(
        ServiceKey("ns1", "web"), 0, healthy=False
    )


def report(*, v4: bool = True, eligible: bool = True) -> Report:
    families = {Family.IPV6: FamilyHealth(30.0, True), Family.IPV4: FamilyHealth(20.0, v4)}
    return Report(100.0, eligible, families)


def test_m2_the_body_of_healthz() -> None:
    assert proxy_document(report(), with_node=True) == (
        '{"lastUpdated":"1970-01-01T00:01:40Z","currentTime":"1970-01-01T00:01:40Z","nodeEligible":true,'
        '"healthy":true,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:20Z","healthy":true},'
        '"IPv6":{"lastUpdated":"1970-01-01T00:00:30Z","healthy":true}}}'
    )


def test_m2_the_body_of_livez_does_not_mention_the_node() -> None:
    document = json.loads(proxy_document(report(eligible=False), with_node=False))
    assert list(document) == ["lastUpdated", "currentTime", "healthy", "status"]


def test_m3_healthy_in_the_body_is_the_proxys_own_health() -> None:
    document = json.loads(proxy_document(report(eligible=False), with_node=True))
    assert (document["nodeEligible"], document["healthy"]) == (False, True)


def test_m5_when_unhealthy_the_newest_success_is_told() -> None:
    document = json.loads(proxy_document(report(v4=False), with_node=True))
    assert document["healthy"] is False
    assert document["lastUpdated"] == "1970-01-01T00:00:30Z"
    assert document["status"]["IPv4"]["healthy"] is False
