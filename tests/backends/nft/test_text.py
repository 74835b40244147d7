"""The ruleset as text: golden files, which nft itself accepts; --dry-run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kpng.backends.nft import NftBackend
from kpng.model import ChangeSet, IPSet, LocalNode, LocalService, ServiceChange, ServiceKey, UserError

GOLDEN = Path(__file__).parent / "golden"
Make = Callable[..., LocalService]
OUTSIDE = IPSet(("203.0.113.7",), ("2001:db8:99::7",))


def states(make: Make) -> dict[str, list[LocalService]]:
    """Services by the name of the golden file."""
    return {
        "empty": [],
        "cluster-ip": [make(pods=(1, 2))],
        "node-port": [make(pods=(1, 2), node_port=30080, local=(1,), external_ips=OUTSIDE)],
        "local-policy": [
            make(pods=(1, 2), external=(1,), short=(1, 2), node_port=30080, external_traffic_local=True),
            make("nobody", vip=8, pods=(), load_balancer_ips=OUTSIDE),
        ],
        "affinity": [make(pods=(1, 2), session_affinity_seconds=10800)],
        "node": [make(pods=(1,), node_port=30080, load_balancer_ips=OUTSIDE, source_ranges=RANGES)],
        "interface": [make(pods=(1,))],
    }


OPTIONS: dict[str, dict[str, Any]] = {
    "cluster-ip": {"cluster_cidr": ("10.1.0.0/16,fd00:1::/64",)},
    "node-port": {"hook_priority": -5},
    "affinity": {"masquerade_all": True},
    "node": {"detect_local_mode": "NodeCIDR", "nodeport_addresses": ("primary",)},
    "interface": {"detect_local_mode": "InterfaceNamePrefix", "pod_interface_name_prefix": "veth"},
}
NAMES = ["empty", "cluster-ip", "node-port", "local-policy", "affinity", "node", "interface"]
RANGES = ("192.0.2.0/24", "198.51.100.7/32", "2001:db8:2::/64")
NODE = LocalNode(
    name="n",
    addresses=IPSet(("192.0.2.1",), ("2001:db8:2::1",)),
    pod_cidrs=("10.1.0.0/24", "fd00:1::/64"),
    service_cidrs=("10.96.0.0/16", "10.97.0.0/16", "fd00:96::/112"),
)


def full(services: list[LocalService], node: LocalNode | None = None) -> ChangeSet:
    changes = {local.service.key: ServiceChange(None, local) for local in services}
    return ChangeSet(changes, full=True, node=node)


async def printed(name: str, make: Make, capsys: pytest.CaptureFixture[str]) -> str:
    backend = NftBackend(dry_run=True, **OPTIONS.get(name, {}))
    await backend.start()
    await backend.apply(full(states(make)[name], NODE if name == "node" else None))
    await backend.stop()
    return capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
async def test_golden(name: str, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """To renew: delete the file, run this, read the difference."""
    path = GOLDEN / f"{name}.nft"
    text = await printed(name, make, capsys)
    if not path.exists():
        path.write_text(text)
        pytest.fail(f"wrote {path.name}; read it")
    assert text == path.read_text()


def tables(text: str) -> list[str]:
    """The tables of a printed ruleset, one text each."""
    head, *found = text.split("\ntable ")
    del head
    return ["table " + table for table in found]


@pytest.mark.netns
@pytest.mark.parametrize("name", NAMES)
def test_nft_accepts_what_is_printed(name: str, node_runner: Any) -> None:
    """But for the IPv6 form of session affinity, at which nft 1.0.6 aborts."""
    for table in tables((GOLDEN / f"{name}.nft").read_text()):
        if name == "affinity" and table.startswith("table ip6"):
            continue
        done = subprocess.run(
            node_runner.namespace.argv("nft", "-c", "-f", "-"),
            input=table,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.netns
@pytest.mark.parametrize("name", [name for name in NAMES if name != "affinity"])
def test_the_kernel_lists_what_is_printed(name: str, make: Make, rig: Any) -> None:
    """What is programmed over netlink is what the text loads: nft lists both alike.

    But for three things: order of chains and elements, which say nothing; the mark being put back, which is only in
    the netlink form (and shows as `meta mark set meta mark`); and what nft calls the flags of the table.
    """
    backend = rig.start(**OPTIONS.get(name, {}))
    backend.set(*states(make)[name], node=NODE if name == "node" else None)
    programmed = rig.nft("list", "ruleset").replace(" meta mark set meta mark meta mark vmap", " meta mark vmap")
    rig.reset()
    rig.nft("-f", "-", stdin=(GOLDEN / f"{name}.nft").read_text())
    assert normal(programmed) == normal(rig.nft("list", "ruleset"))


def normal(listed: str) -> list[str]:
    """The lines of a listing in an order of their own, elements one a line."""
    lines = (
        re.sub("# progname .*", "", listed)
        .replace(", ", ",\n")
        .replace("{ ", "{\n")
        .replace(" }", "\n}")
        .splitlines()
    )
    stripped = (line.strip().rstrip(",") for line in lines)
    return sorted(line for line in stripped if line and line != "flags owner")


async def test_changes_are_printed_as_commands(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    backend = NftBackend(dry_run=True)
    before, after = make(pods=(1, 2)), make(pods=(1, 3, 4), session_affinity_seconds=0)
    await backend.apply(full([before]))
    capsys.readouterr()
    await backend.apply(ChangeSet({before.service.key: ServiceChange(before, after)}))
    lines = [line for line in capsys.readouterr().out.splitlines() if " ip kpng" in line and " state " not in line]
    assert lines == [
        "delete element ip kpng endpoints { 10.96.0.7 . tcp . 80 . 1 }",
        "delete element ip kpng services { 10.96.0.7 . tcp . 80 }",
        "add chain ip kpng count_3",
        "add rule ip kpng count_3 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 "
        "map @endpoints",
        "add element ip kpng classes { 0x00000003 : jump count_3 }",
        "add element ip kpng endpoints { 10.96.0.7 . tcp . 80 . 1 : 10.1.0.3 . 8080, "
        "10.96.0.7 . tcp . 80 . 2 : 10.1.0.4 . 8080 }",
        "add element ip kpng services { 10.96.0.7 . tcp . 80 : 0x00000003 }",
    ]


def service_cidrs(*cidrs: str) -> LocalNode:
    return LocalNode(name="n", service_cidrs=cidrs)


async def test_changes_of_intervals_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    backend = NftBackend(dry_run=True)
    await backend.apply(ChangeSet({}, full=True, node=service_cidrs("10.96.0.0/16")))
    assert "elements = { 10.96.0.0/16 }" in capsys.readouterr().out
    await backend.apply(ChangeSet({}, node=service_cidrs("10.96.0.0/16", "10.98.0.0/16")))
    await backend.apply(ChangeSet({}, node=service_cidrs("10.97.0.0/16", "10.98.0.0/16")))
    lines = [line for line in capsys.readouterr().out.splitlines() if " state " not in line]
    assert lines == [
        "add element ip kpng service_cidrs { 10.98.0.0/16 }",
        "delete element ip kpng service_cidrs { 10.96.0.0/16, 10.98.0.0/16 }",
        "add element ip kpng service_cidrs { 10.97.0.0-10.98.255.255 }",
    ]


@pytest.mark.netns
async def test_nft_accepts_printed_changes(
    make: Make, capsys: pytest.CaptureFixture[str], node_runner: Any
) -> None:
    """The ruleset and then each change, as a person would load them. (But a class that is new: nft 1.0.6 cannot
    add a rule with such a map to a table that is loaded already.)"""
    backend = NftBackend(dry_run=True)
    states = [make(pods=(1, 2), node_port=30080), make(pods=(3, 4), node_port=30081), None]
    texts = []
    for before, after in zip([None, *states], states, strict=False):
        key = ServiceKey("demo", "web")
        await backend.apply(ChangeSet({key: ServiceChange(before, after)}, full=before is None))
        texts.append(capsys.readouterr().out)
    for text in texts:
        node_runner.namespace.run("nft", "-f", "-", stdin=text)
    assert "10.96.0.7" not in node_runner.namespace.run("nft", "list", "ruleset")


async def test_a_full_change_set_later_removes_what_is_not_in_it(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = NftBackend(dry_run=True)
    await backend.apply(full([make(), make("other", vip=8)]))
    capsys.readouterr()
    await backend.apply(full([make()]))
    assert "delete element ip kpng cluster_ips { 10.96.0.8 }" in capsys.readouterr().out


def options_of(arguments: list[str]) -> NftBackend:
    """A backend made from a command line."""
    made: list[NftBackend] = []
    command = click.Command(
        "to-nft", params=list(NftBackend.options), callback=lambda **o: made.append(NftBackend(**o))
    )
    CliRunner().invoke(command, arguments, catch_exceptions=False)
    return made[0]


@pytest.mark.parametrize(
    ("arguments", "cidrs"),
    [
        ([], ()),
        (["--cluster-cidr", "10.1.0.0/16"], ("10.1.0.0/16",)),
        (["--cluster-cidr", "10.1.2.3/16, fd00::/56"], ("10.1.0.0/16", "fd00::/56")),
        (["--cluster-cidr", "fd00::/56", "--cluster-cidr", "10.1.0.0/16"], ("fd00::/56", "10.1.0.0/16")),
    ],
)
def test_cluster_cidr(arguments: list[str], cidrs: tuple[str, ...]) -> None:
    layouts = options_of(["--dry-run", *arguments])._layouts.values()
    assert {layout.options.cluster_cidrs for layout in layouts} == {cidrs}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("10.1.0.0", "'10.1.0.0' is not a CIDR"),
        ("10.1.0.0/33", "is not a CIDR"),
        ("", "'' is not a CIDR"),
        (",", "'' is not a CIDR"),
        ("10.1.0.0/16,", "'' is not a CIDR"),
        ("10.1.0.0/16,10.2.0.0/16", "at most one CIDR of each family"),
    ],
)
def test_bad_cluster_cidr(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        options_of(["--cluster-cidr", given])
    assert str(caught.value).startswith("--cluster-cidr: ")


def test_help_teaches() -> None:
    assert "kpng local to-nft --cluster-cidr" in NftBackend.help
    assert {option.name for option in NftBackend.options} >= {
        "detect_local_mode",
        "cluster_cidr",
        "pod_bridge_interface",
        "pod_interface_name_prefix",
        "masquerade_all",
        "nodeport_addresses",
        "hook_priority",
        "dry_run",
    }


async def test_problems_are_named(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    backend = NftBackend(dry_run=True)
    await backend.apply(full([make("a"), make("b")]))
    lost = "Service demo/b: port 80: cluster IP 10.96.0.7:80/TCP already belongs to service demo/a"
    assert lost in caplog.text
    assert "Service demo/a" not in caplog.text.replace("service demo/a", "")
