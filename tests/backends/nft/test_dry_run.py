"""``--dry-run``: what is printed follows the state, loads, and costs nothing but the printing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from kpng.backends.nft import NftBackend
from kpng.model import ChangeSet, IPSet, LocalService, ServiceChange, ServiceKey

Make = Callable[..., LocalService]
WEB, OTHER = ServiceKey("demo", "web"), ServiceKey("demo", "other")


class Printed:
    """A dry run, step by step: the lines that each change set prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str], **options: Any) -> None:
        self._backend = NftBackend(dry_run=True, **options)
        self._capsys = capsys
        self._state: dict[ServiceKey, LocalService] = {}

    async def set(self, *services: LocalService, full: bool = False) -> list[str]:
        wanted = {local.service.key: local for local in services}
        keys = wanted.keys() if full else {*self._state, *wanted}
        changes = {key: ServiceChange(self._state.get(key), wanted.get(key)) for key in sorted(keys)}
        await self._backend.apply(ChangeSet(changes, full=full))
        self._state = wanted
        return self._capsys.readouterr().out.splitlines()


def commands(lines: list[str], family: str = "ip") -> list[str]:
    """The commands for one family, without the fingerprint."""
    return [line for line in lines if re.match(rf"(add|delete) \w+ {family} kpng ", line) and " state " not in line]


@pytest.fixture
def dry(capsys: pytest.CaptureFixture[str]) -> Printed:
    return Printed(capsys)


async def test_first_the_ruleset_then_commands(dry: Printed, make: Make) -> None:
    first = await dry.set(make(), full=True)
    assert first[0].startswith("#")
    assert [line for line in first if line.startswith("table")] == ["table ip kpng {", "table ip6 kpng {"]
    then = await dry.set(make(pods=(1,)))
    assert not [line for line in then if line.startswith("table")]
    assert commands(then)


async def test_nothing_changed_prints_nothing(dry: Printed, make: Make) -> None:
    await dry.set(make(), full=True)
    assert await dry.set(make()) == []
    assert await dry.set(make(labels={"a": "b"})) == []
    assert await dry.set(make(), full=True) == []


async def test_each_change_names_the_fingerprint_before_and_after(dry: Printed, make: Make) -> None:
    """So that the printed commands leave a table that a later start adopts."""
    text = "\n".join(await dry.set(make(), full=True))
    found = re.findall(r'comment "(\w{16}-\w{32})"', text)
    assert len(found) == 2
    lines = await dry.set(make(pods=(1,)))
    states = [line for line in lines if " ip kpng state " in line]
    assert states[0] == "delete element ip kpng state { 0x00000000 }"
    [new] = re.findall(r'comment "(\w{16}-\w{32})"', states[1])
    assert new != found[0]
    assert new[:16] == found[0][:16]


CHANGES: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    (
        "an endpoint goes",
        {"pods": (1, 2)},
        {"pods": (1,)},
        [
            "delete element ip kpng endpoints { 10.96.0.7 . tcp . 80 . 1 }",
            "delete element ip kpng services { 10.96.0.7 . tcp . 80 }",
            "add chain ip kpng count_1",
            "add rule ip kpng count_1 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 "
            "map @endpoints",
            "add element ip kpng classes { 0x00000001 : jump count_1 }",
            "add element ip kpng services { 10.96.0.7 . tcp . 80 : 0x00000001 }",
        ],
    ),
    (
        "the last endpoint goes",
        {"pods": (1,)},
        {"pods": ()},
        [
            "delete element ip kpng endpoints { 10.96.0.7 . tcp . 80 . 0 }",
            "delete element ip kpng services { 10.96.0.7 . tcp . 80 }",
            "add element ip kpng rejected { 10.96.0.7 . tcp . 80 }",
        ],
    ),
    (
        "the last endpoint here goes",
        {"pods": (1,)},
        {"pods": (), "available": 3},
        [
            "delete element ip kpng endpoints { 10.96.0.7 . tcp . 80 . 0 }",
            "delete element ip kpng services { 10.96.0.7 . tcp . 80 }",
            "add element ip kpng dropped { 10.96.0.7 . tcp . 80 }",
        ],
    ),
    (
        "a pod becomes local",
        {"pods": (1,)},
        {"pods": (1,), "local": (1,)},
        ["add element ip kpng hairpin { 10.1.0.1 . 10.1.0.1 }"],
    ),
    (
        "an external address comes",
        {"pods": (1,)},
        {"pods": (1,), "external_ips": IPSet(("203.0.113.9",))},
        [
            "add element ip kpng endpoints { 203.0.113.9 . tcp . 80 . 0 : 10.1.0.1 . 8080 }",
            "add element ip kpng masqueraded { 203.0.113.9 . tcp . 80 }",
            "add element ip kpng services { 203.0.113.9 . tcp . 80 : 0x00000001 }",
        ],
    ),
    (
        "the policy becomes Local",
        {"pods": (1,), "external_ips": IPSet(("203.0.113.9",))},
        {"pods": (1,), "external_ips": IPSet(("203.0.113.9",)), "external_traffic_local": True},
        ["delete element ip kpng masqueraded { 203.0.113.9 . tcp . 80 }"],
    ),
    (
        "the port changes",
        {"pods": (1,)},
        {"pods": (1,), "port": 81},
        [
            "delete element ip kpng endpoints { 10.96.0.7 . tcp . 80 . 0 }",
            "delete element ip kpng services { 10.96.0.7 . tcp . 80 }",
            "add element ip kpng endpoints { 10.96.0.7 . tcp . 81 . 0 : 10.1.0.1 . 8080 }",
            "add element ip kpng services { 10.96.0.7 . tcp . 81 : 0x00000001 }",
        ],
    ),
    ("only IPv6 changes", {"pods": (1,)}, {"pods": (1,), "external_ips": IPSet((), ("2001:db8::9",))}, []),
]


@pytest.mark.parametrize(("before", "after", "expected"), [pytest.param(*c[1:], id=c[0]) for c in CHANGES])
async def test_changes(
    dry: Printed, make: Make, before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    await dry.set(make(**before), full=True)
    assert commands(await dry.set(make(**after))) == expected


async def test_both_families_in_turn(dry: Printed, make: Make) -> None:
    await dry.set(make(pods=(1,)), full=True)
    lines = await dry.set(make(pods=(2,)))
    for family, vip, pod in (("ip", "10.96.0.7", "10.1.0.2"), ("ip6", "fd00:96::7", "fd00:1::2")):
        assert commands(lines, family) == [
            f"delete element {family} kpng endpoints {{ {vip} . tcp . 80 . 0 }}",
            f"add element {family} kpng endpoints {{ {vip} . tcp . 80 . 0 : {pod} . 8080 }}",
        ]


async def test_the_other_claimant_takes_over(dry: Printed, make: Make) -> None:
    first, second = make("aaa", pods=(1,)), make("bbb", pods=(2,))
    await dry.set(first, second, full=True)
    lines = commands(await dry.set(second))
    endpoint = "ip kpng endpoints { 10.96.0.7 . tcp . 80 . 0"
    assert f"delete element {endpoint} }}" in lines
    assert f"add element {endpoint} : 10.1.0.2 . 8080 }}" in lines
    assert not [line for line in lines if "cluster_ips" in line]  # both have it


@pytest.mark.netns
async def test_everything_can_be_printed_and_loaded_back_to_nothing(
    make: Make, capsys: pytest.CaptureFixture[str], node_runner: Any
) -> None:
    """Classes exist from the start here, as nft 1.0.6 cannot add such rules to a loaded table."""
    dry = Printed(capsys)
    ones = [make(f"s{n}", vip=n, pods=(n % 5 + 1,), node_port=30000 + n) for n in range(1, 9)]
    twos = [make(f"s{n}", vip=n, pods=(n % 5 + 1, 6), node_port=30100 + n) for n in range(9, 12)]
    for state in ([*ones, *twos], ones[:4], [*ones[2:], *twos[1:]], []):
        text = "\n".join(await dry.set(*state, full=state and len(state) == 11))
        node_runner.namespace.run("nft", "-f", "-", stdin=text + "\n")
        listed = node_runner.namespace.run("nft", "list", "table", "ip", "kpng")
        assert len(set(re.findall(r"10\.96\.0\.\d+", listed))) == len(state)


async def test_needs_no_connection(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    backend = NftBackend(dry_run=True)
    await backend.start()
    assert backend._connection is None
    await backend.apply(ChangeSet({WEB: ServiceChange(None, make())}, full=True))
    await backend.stop()
    assert "10.96.0.7" in capsys.readouterr().out
