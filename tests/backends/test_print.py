"""What `to-print` prints and `to-exec` hands over, to the byte."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from kpng.backends.document import LocalState
from kpng.backends.print import FORMATS, PrintBackend
from kpng.model import ChangeSet, IPSet, LocalNode, LocalService, Scopes, UserError
from kpng.testing import change_set, endpoint, full_state, local_service, service

A = endpoint("10.1.0.1", port={"http": 8080}, local=True, hostname="web-1")
B = endpoint("fd00::1", port="http=8080 dns=53/UDP", internal=False)
WEB = local_service(
    service(
        "demo/web",
        "10.96.0.10",
        "fd00:96::10",
        ports="http=80:8080@30080 dns=53/UDP",
        type="LoadBalancer",
        external_ips=IPSet.of(["192.0.2.1"]),
        load_balancer_ips=IPSet.of(["192.0.2.2"]),
        source_ranges=("10.0.0.0/8",),
        session_affinity_seconds=10800,
        labels={"app": "web"},
    ),
    a=A,
    b=B,
)
BARE = local_service(service("demo/bare", ports="", headless=True))

FULL_TEXT = """\
+ service demo/bare ClusterIP - ports -
+ service demo/web LoadBalancer 10.96.0.10, fd00:96::10, 192.0.2.1, 192.0.2.2 ports 80/TCP, 53/UDP
+ endpoint demo/web/a 10.1.0.1 http=8080/TCP internal+external local
+ endpoint demo/web/b fd00::1 http=8080/TCP, dns=53/UDP external
# full state: 2 services
"""

DOCUMENT = {
    "services": [
        {"namespace": "demo", "name": "bare", "headless": True, "ports": [], "endpoints": []},
        {
            "namespace": "demo",
            "name": "web",
            "type": "LoadBalancer",
            "cluster_ips": {"v4": ["10.96.0.10"], "v6": ["fd00:96::10"]},
            "external_ips": {"v4": ["192.0.2.1"]},
            "load_balancer_ips": {"v4": ["192.0.2.2"]},
            "ports": [
                {
                    "port": 80,
                    "protocol": "TCP",
                    "name": "http",
                    "node_port": 30080,
                    "target_port": 8080,
                    "available": 3,
                },
                {"port": 53, "protocol": "UDP", "name": "dns", "target_port": 53, "available": 3},
            ],
            "session_affinity_seconds": 10800,
            "source_ranges": ["10.0.0.0/8"],
            "labels": {"app": "web"},
            "endpoints": [
                {
                    "key": "a",
                    "addresses": ["10.1.0.1"],
                    "ports": {"80/TCP": 8080},
                    "internal": True,
                    "external": True,
                    "local": True,
                    "hostname": "web-1",
                },
                {
                    "key": "b",
                    "addresses": ["fd00::1"],
                    "ports": {"80/TCP": 8080, "53/UDP": 53},
                    "internal": False,
                    "external": True,
                    "local": False,
                },
            ],
        },
    ]
}


async def printed(capsys: pytest.CaptureFixture[str], output: str, *change_sets: ChangeSet) -> str:
    backend = PrintBackend(output)
    for changes in change_sets:
        await backend.apply(changes)
    return capsys.readouterr().out


async def test_the_full_state_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert await printed(capsys, "text", full_state(WEB, BARE)) == FULL_TEXT


async def test_nothing_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert await printed(capsys, "text", full_state()) == "# full state: 0 services\n"


def after(*endpoints: str) -> LocalService:
    return local_service(WEB.service, a=A, c=endpoint(*endpoints, port=80))


TEXTS: list[tuple[list[LocalService], list[LocalService], str]] = [
    ([WEB], [], "- service demo/web\n# changes: 1 service\n"),
    (
        [WEB],
        [after("10.1.0.3")],
        "+ endpoint demo/web/c 10.1.0.3 (unnamed)=80/TCP internal+external\n"
        "- endpoint demo/web/b\n"
        "# changes: 1 service\n",
    ),
    (
        [after("10.1.0.3")],
        [after("10.1.0.4")],
        "~ endpoint demo/web/c 10.1.0.4 (unnamed)=80/TCP internal+external\n# changes: 1 service\n",
    ),
    (
        [BARE],
        [local_service(service("demo/bare", "10.96.0.1"))],
        "~ service demo/bare ClusterIP 10.96.0.1 ports 80/TCP\n# changes: 1 service\n",
    ),
]


@pytest.mark.parametrize(("old", "new", "text"), TEXTS)
async def test_changes_as_text(
    capsys: pytest.CaptureFixture[str], old: list[LocalService], new: list[LocalService], text: str
) -> None:
    assert await printed(capsys, "text", change_set(old, new)) == text


async def test_the_whole_state_after_each_change_set_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    text = await printed(capsys, "json", full_state(WEB, BARE), change_set([WEB], []))
    first, second = map(json.loads, text.splitlines())
    assert first == DOCUMENT
    assert [s["name"] for s in second["services"]] == ["bare"]


async def test_the_whole_state_after_each_change_set_as_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    text = await printed(capsys, "yaml", full_state(WEB, BARE), change_set([WEB, BARE], []))
    assert text.startswith("---\nservices:\n")
    assert list(yaml.safe_load_all(text)) == [DOCUMENT, {"services": []}]


async def test_what_the_runtime_merged_prints_the_same_state(capsys: pytest.CaptureFixture[str]) -> None:
    first, then = full_state(WEB, BARE), change_set([WEB], [after("10.1.0.3")])
    apart = await printed(capsys, "json", first, then)
    assert apart.splitlines()[-1] == (await printed(capsys, "json", first.then(then))).rstrip()


def test_a_state_is_never_changed_only_followed_by_another() -> None:
    empty = LocalState()
    one = empty.after(full_state(WEB, BARE))
    two = one.after(change_set([WEB], []))
    assert [len(state.services) for state in (empty, one, two)] == [0, 2, 1]
    assert len(two.after(full_state(WEB)).services) == 1  # what a full state does not name is gone


def test_every_format_is_offered() -> None:
    (option,) = PrintBackend.options
    assert tuple(option.type.choices) == FORMATS  # type: ignore[attr-defined]


async def test_a_full_disk_is_the_worlds_fault_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> Any:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OSError, match="No space") as caught:
        await PrintBackend().apply(full_state())
    assert not isinstance(caught.value, UserError)


NODE = LocalNode(
    name="n1",
    addresses=IPSet(("192.0.2.1",), ("fd00::1",)),
    pod_cidrs=("10.1.0.0/24",),
    service_cidrs=("10.96.0.0/16",),
    eligible=True,
)


async def test_the_node_itself(capsys: pytest.CaptureFixture[str]) -> None:
    changes = [
        ChangeSet({}, full=True, node=NODE),
        ChangeSet({}, node=LocalNode(name="n1", addresses=IPSet(("192.0.2.1",)))),
    ]
    lines = (await printed(capsys, "text", *changes)).splitlines()
    assert lines[0] == "+ node n1 192.0.2.1, fd00::1 pods 10.1.0.0/24 services 10.96.0.0/16"
    assert lines[2] == "~ node n1 192.0.2.1 not-eligible"
    (document,) = map(json.loads, (await printed(capsys, "json", *changes[:1])).splitlines())
    assert document["node"] == {
        "name": "n1",
        "addresses": ["192.0.2.1", "fd00::1"],
        "pod_cidrs": ["10.1.0.0/24"],
        "service_cidrs": ["10.96.0.0/16"],
        "eligible": True,
    }


async def test_a_node_of_which_nothing_is_known_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    printed_text = await printed(capsys, "text", ChangeSet({}, full=True, node=LocalNode(name="vm")))
    assert printed_text == "# full state: 0 services\n"


@pytest.mark.parametrize(
    ("scopes", "text"),
    [
        (Scopes(), "internal+external"),
        (Scopes(False, True, True), "external+short-circuit"),
        (Scopes(False, False), "no-new-connections"),
    ],
)
async def test_scopes_as_people_read_them(capsys: pytest.CaptureFixture[str], scopes: Scopes, text: str) -> None:
    given = replace(endpoint("10.1.0.9"), scopes=scopes, terminating=True)
    out = await printed(capsys, "text", full_state(local_service(service("demo/x"), given)))
    assert f"10.1.0.9 (unnamed)=8080/TCP {text} terminating\n" in out
