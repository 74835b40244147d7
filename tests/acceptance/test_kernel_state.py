"""What is compared at the end of a soak: everything that matters, and only that."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.kernel_state import Entry, differences, table_state

CHAIN: Entry = ("chain", {"name": "count_2", "handle": 7})
RULE: Entry = ("rule", {"chain": "count_2", "handle": 9, "expr": [{"dnat": 2}]})


def service(name: str, number: int) -> list[Any]:
    return [{"concat": [name, "tcp", 80]}, number]


def jump(number: int) -> list[Any]:
    return [number, {"jump": {"target": f"count_{number}"}}]


def table(services: list[Any], classes: list[Any], *more: Entry, handle: int = 1) -> list[Entry]:
    return [
        ("table", {"name": "kpng", "handle": handle}),
        ("map", {"name": "services", "handle": handle, "size": handle, "elem": services}),
        ("map", {"name": "classes", "elem": classes}),
        *more,
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (table([service("a", 2), service("b", 2)], []), table([service("b", 2), service("a", 2)], [])),
        (table([], [], handle=3), table([], [], handle=55)),
        (
            table([service("a", 2)], [jump(2), jump(3)], CHAIN, RULE, ("chain", {"name": "count_3"})),
            table([service("a", 2)], [jump(2)], CHAIN, RULE),
        ),
        (table([], [], ("map", {"name": "affinity_clients", "elem": [1]})), table([], [])),
    ],
    ids=["order", "handles and sizes", "classes in reserve", "what packets fill"],
)
def test_what_does_not_matter(one: list[Entry], other: list[Entry]) -> None:
    assert differences(table_state(one), table_state(other)) == []


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (table([service("a", 2)], []), table([], []), "services: first has "),
        (table([service("a", 2)], []), table([service("a", 3)], []), "services: first has "),
        (table([service("a", 2)], [jump(2)]), table([service("a", 2)], []), "classes: first has "),
        (table([service("a", 2)], [jump(2)], CHAIN), table([service("a", 2)], [jump(2)]), "chain count_2: only in"),
        (
            table([service("a", 2)], [jump(2)], CHAIN, RULE),
            table([service("a", 2)], [jump(2)], CHAIN),
            "chain count_2: first has ",
        ),
        (
            table([], [], ("chain", {"name": "nat", "hook": "output", "prio": -100})),
            table([], [], ("chain", {"name": "nat", "hook": "output", "prio": -99})),
            "chain nat: first has ",
        ),
        (table([], []), [], "classes: only in the first"),
    ],
)
def test_what_does(one: list[Entry], other: list[Entry], said: str) -> None:
    assert differences(table_state(one), table_state(other))[0].startswith(said)


def test_the_order_of_rules_matters() -> None:
    first, second = (("rule", {"chain": "c", "expr": [number]}) for number in (1, 2))
    assert differences(table_state([first, second]), table_state([second, first]))
