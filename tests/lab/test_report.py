"""The table must be readable and fit; the JSON must hold everything."""

from __future__ import annotations

import json

import pytest

from kpng.lab.outcome import Outcome
from kpng.lab.probes import Reply, Tally, Target
from kpng.lab.report import WIDTH, as_json, endpoints, summary, table
from kpng.lab.topology import plan
from kpng.lab.traffic import scenarios


def seen(*pods: str, error: str = "") -> Tally:
    return Tally([Reply(0, 0.00123, pod, "10.0.0.9", error) for pod in pods])


GOOD = Outcome("cluster IP from a pod", "caller", "10.96.0.80:80", seen("web-1", "web-2", "web-2"))
REFUSED = Outcome("no endpoints", "caller", "[fd00::1]:80", seen("", "", error="refused"), note="in 0.2 ms")
BROKEN = Outcome("node port", "client", "192.0.2.1:30080", seen("web-1"), problems=("never answered: web-2",))


def test_the_table() -> None:
    lines = table([GOOD, REFUSED, BROKEN], 12.34).splitlines()
    assert " ".join(lines[0].split()) == "scenario from -> to answered endpoints p50 ms p99 ms result"
    assert lines[2].split()[-5:] == ["3/3", "web-1,2", "1.2", "1.2", "ok"]
    assert "caller -> 10.96.0.80:80" in lines[2]
    assert "web-1,2" in lines[2]
    assert "refused" in lines[3]
    assert lines[4] == "  in 0.2 ms"
    assert lines[5].endswith("FAILED")
    assert lines[6] == "  !! never answered: web-2"
    assert lines[-1] == "2 of 3 scenarios as expected, 6 requests, 12.3 s"


def test_no_line_is_wider_than_the_screen() -> None:
    long = Outcome("x", "caller", "y", seen("web-1"), problems=("z" * 500,))
    assert all(len(line) <= WIDTH for line in table([GOOD, BROKEN, long], 1).splitlines())


def test_every_scenario_fits_its_columns() -> None:
    for node_count in (2, 3):
        for scenario in scenarios(plan("lab", node_count)):
            outcome = Outcome(
                scenario.title, scenario.origin, str(scenario.target), seen("web-1", "web-2", "web-3")
            )
            row = table([outcome], 1).splitlines()[2]
            assert len(row) <= WIDTH, row
            assert f" {scenario.origin} -> {scenario.target} " in row, row


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["web-2", "web-1"], "web-1,2"),
        (["web-1", "shop-1"], "shop-1 web-1"),
        (["caller"], "caller"),
    ],
)
def test_endpoints_in_short(names: list[str], text: str) -> None:
    assert endpoints(names) == text


def test_json_holds_everything() -> None:
    report = json.loads(as_json([GOOD, REFUSED, BROKEN], 1.23456))
    assert report["passed"] is False
    assert report["seconds"] == 1.235
    first, second, third = report["scenarios"]
    assert first == {
        "scenario": "cluster IP from a pod",
        "from": "caller",
        "to": "10.96.0.80:80",
        "sent": 3,
        "answered": 3,
        "errors": {},
        "endpoints": {"web-1": 1, "web-2": 2},
        "clients": ["10.0.0.9"],
        "p50_ms": 1.23,
        "p99_ms": 1.23,
        "note": "",
        "passed": True,
        "problems": [],
    }
    assert second["errors"] == {"refused": 2}
    assert third["problems"] == ["never answered: web-2"]


def test_json_passes_only_if_all_pass() -> None:
    assert json.loads(as_json([GOOD, REFUSED], 1))["passed"] is True


def test_summary_of_nothing() -> None:
    assert summary([], 0) == "0 of 0 scenarios as expected, 0 requests, 0.0 s"


def test_targets_of_the_report_are_those_of_the_probes() -> None:
    assert str(Target("http", "192.0.2.1", 30080)) == BROKEN.target
