"""What the soak makes of what it has measured."""

from __future__ import annotations

from itertools import pairwise

import pytest
from benchmarks.soak import faults_in, growth, large_shape

from kpng.load import Shape
from kpng.load.objects import endpoint_slices

SPARED = ("brain-spared", "agent-spared")


def memory(*points: tuple[float, float]) -> list[tuple[float, float]]:
    """A sample a second, on straight lines between the points (share of the time, MiB); it began at 1000 s."""
    samples = []
    for (start, before), (end, after) in pairwise(points):
        steps = range(round(start * 600), round(end * 600))
        samples += [(1000.0 + at, before + (after - before) * (at / 600 - start) / (end - start)) for at in steps]
    return samples


@pytest.mark.parametrize(
    ("points", "percent"),
    [
        ([(0, 100), (1, 100)], 0),
        ([(0, 50), (1 / 3, 100), (1, 100)], 0),  # it warmed up
        ([(0, 100), (0.5, 100), (0.8, 130), (1, 130)], 30),
        ([(0, 200), (0.5, 200), (0.8, 150), (1, 150)], -25),
    ],
)
def test_growth_is_from_a_third_of_the_time_on(points: list[tuple[float, float]], percent: float) -> None:
    found = growth(memory(*points))
    assert found["rss_growth_percent"] == pytest.approx(percent, abs=0.01)
    assert found["rss_mib"] == points[-1][1]


def test_the_slope_is_by_the_hour() -> None:
    assert growth(memory((0, 100), (1, 110)))["rss_slope"] == pytest.approx(60)


def figures(equal: float = 1.0, failed: float = 0.0, **percent: float) -> dict[str, float]:
    grown = {"brain": 0.0, "agent": 0.0, **percent}
    return {"equal": equal, "failed": failed, "rss_growth_percent_brain-killed": 99.0} | {
        f"rss_growth_percent_{name}-spared": value for name, value in grown.items()
    }


@pytest.mark.parametrize(
    ("measured", "minutes", "complaints"),
    [
        (figures(), 30.0, []),
        (figures(agent=14.9), 30.0, []),
        (figures(agent=15.1), 30.0, ["the memory of agent-spared grew by 15.1 % (15 % are allowed)"]),
        (figures(brain=40.0), 5.0, ["the memory of brain-spared grew by 40.0 % (15 % are allowed)"]),
        (figures(brain=40.0), 4.9, []),  # that is warming up
        (figures(failed=2.0), 0.6, ["2 requests failed"]),
        (figures(equal=0.0), 0.6, ["the kernel does not hold what a fresh start would write"]),
    ],
)
def test_a_soak_that_found_something_fails(
    measured: dict[str, float], minutes: float, complaints: list[str]
) -> None:
    assert faults_in(measured, SPARED, minutes, 15.0) == complaints


def test_the_large_service_is_one_more_on_the_same_nodes() -> None:
    shape = Shape(services=10, endpoints=2, nodes=3)
    large = large_shape(shape, 250)
    assert large is not None
    sizes = [len(thing["endpoints"]) for thing in endpoint_slices(large)]
    assert sizes == [100, 100, 50]
    nodes = {endpoint["nodeName"] for thing in endpoint_slices(large) for endpoint in thing["endpoints"]}
    assert nodes == {shape.site(node).name for node in range(3)}
    assert large_shape(shape, 0) is None
