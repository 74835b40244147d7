"""The parts of ``kpng proxy``: names, waiting, what the configuration becomes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from watchfiles._rust_notify import WatchfilesRustInternalError

from kpng.cli import config_watch, proxy_node
from kpng.cli.config_watch import ConfigurationChangedError, until_changed
from kpng.cli.proxy_backend import backend_words, node_port_addresses, with_bind_address
from kpng.cli.proxy_node import NodeTimeoutError, proxy_node_name, wait_for_node
from kpng.cli.proxy_run import ProxyOptions, conntrack_limits, kube_options
from kpng.host.conntrack_limits import ConntrackLimits
from kpng.kube import AccessOptions
from kpng.model import IPSet, Node, UserError
from kpng.proxyconfig import Duration, KubeProxyConfiguration, apply_defaults
from kpng.proxyconfig.fields import set_field
from kpng.store import Store
from kpng.store.snapshot import Kind

# -- K1 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "name"), [("node-a", "node-a"), (" Node-A\n", "node-a"), ("NODE.example.org", "node.example.org")]
)
def test_k1_the_name_is_trimmed_and_lower_case(override: str, name: str) -> None:
    assert proxy_node_name(override) == name


def test_k1_without_one_it_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Host-1")
    assert proxy_node_name("") == "host-1"


@pytest.mark.parametrize("override", [" ", "a b", "a/b", "-a", "a" * 254])
def test_k1_what_is_no_name_is_the_users_mistake(override: str) -> None:
    with pytest.raises(UserError, match="--hostname-override"):
        proxy_node_name(override)


# -- K2, K3 --------------------------------------------------------------------------------------

WHOLE = Node(name="n", addresses=IPSet.of(["192.0.2.1"]), pod_cidrs=("10.244.0.0/24",))
NO_PODS = Node(name="n", addresses=IPSet.of(["192.0.2.1"]))
BARE = Node(name="n")


def store_with(*nodes: Node) -> Store:
    store = Store()
    with store.transaction() as staged:
        for node in nodes:
            staged.set_node(node)
        for kind in Kind:
            staged.mark_synced(kind)
    return store


def put(store: Store, node: Node) -> None:
    with store.transaction() as staged:
        staged.set_node(node)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_node, "ADDRESS_SECONDS", 0.05)
    monkeypatch.setattr(proxy_node, "POD_CIDR_SECONDS", 0.05)


async def test_k3_a_node_that_is_whole_is_not_waited_for() -> None:
    assert await wait_for_node(store_with(WHOLE), "n", needs_pod_cidrs=True) == WHOLE


@pytest.mark.parametrize("needs_pod_cidrs", [False, True])
async def test_k3_what_comes_later_is_waited_for(needs_pod_cidrs: bool) -> None:
    store = store_with()
    waiting = asyncio.create_task(wait_for_node(store, "n", needs_pod_cidrs=needs_pod_cidrs))
    for node in (BARE, NO_PODS, WHOLE):
        await asyncio.sleep(0.01)
        put(store, node)
    found = await waiting
    assert found == WHOLE if needs_pod_cidrs else found in (NO_PODS, WHOLE)


async def test_k3_nothing_is_decided_before_all_has_been_seen() -> None:
    store = Store()
    waiting = asyncio.create_task(wait_for_node(store, "n", needs_pod_cidrs=False))
    put(store, WHOLE)
    await asyncio.sleep(0.02)
    assert not waiting.done()
    with store.transaction() as staged:
        for kind in Kind:
            staged.mark_synced(kind)
    assert await waiting == WHOLE


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("nodes", "said"), [([], "no such Node"), ([BARE], "no address")])
async def test_k3_without_addresses_it_goes_on(
    nodes: list[Node], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        found = await wait_for_node(store_with(*nodes), "n", needs_pod_cidrs=False)
    assert found == (nodes[0] if nodes else None)
    assert [record.getMessage() for record in caplog.records] == [f"Node n: {said}; going on without its addresses"]


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("nodes", "said"), [([], "no such Node"), ([NO_PODS], "no pod CIDR allocated")])
async def test_k3_without_pod_cidrs_it_ends(nodes: list[Node], said: str) -> None:
    with pytest.raises(NodeTimeoutError, match=f"Node n: {said} after"):
        await wait_for_node(store_with(*nodes), "n", needs_pod_cidrs=True)


BOUND = [
    # of the Node, bind address -> addresses
    (["192.0.2.1"], "", ["192.0.2.1"]),
    (["192.0.2.1"], "0.0.0.0", ["192.0.2.1"]),
    (["192.0.2.1"], "::", ["192.0.2.1"]),
    (["192.0.2.1", "2001:db8::1"], "192.0.2.9", ["192.0.2.9", "2001:db8::1"]),
    (["192.0.2.1", "2001:db8::1"], "2001:DB8:0::9", ["192.0.2.1", "2001:db8::9"]),
    (["192.0.2.1"], "2001:db8::9", ["192.0.2.1", "2001:db8::9"]),
    ([], "192.0.2.9", ["192.0.2.9"]),
]


@pytest.mark.parametrize(("own", "bind", "wanted"), BOUND)
def test_k2_a_specific_bind_address_is_the_nodes(own: list[str], bind: str, wanted: list[str]) -> None:
    assert with_bind_address(IPSet.of(own), bind) == IPSet.of(wanted)


# -- what the configuration becomes --------------------------------------------------------------


def configured(**fields: Any) -> KubeProxyConfiguration:
    config = apply_defaults(KubeProxyConfiguration())
    for path, value in fields.items():
        set_field(config, path.replace("__", "."), value)
    return config


WORDS = [
    (configured(clusterCIDR="10.0.0.0/8,fd00::/8"), "--cluster-cidr=10.0.0.0/8,fd00::/8"),
    (configured(nftables__masqueradeAll=True), "--masquerade-all"),
    (configured(), "--nodeport-addresses=primary"),
    (configured(nodePortAddresses=["10.0.0.0/8", "::/0"]), "--nodeport-addresses=10.0.0.0/8,::/0"),
    (configured(detectLocalMode="NodeCIDR"), "--detect-local-mode=NodeCIDR"),
    (
        configured(detectLocalMode="BridgeInterface", detectLocal__bridgeInterface="cni0"),
        "--pod-bridge-interface=cni0",
    ),
    (configured(detectLocal__interfaceNamePrefix="veth"), "--pod-interface-name-prefix=veth"),
]


@pytest.mark.parametrize(("config", "word"), WORDS)
def test_fields_become_options_of_to_nft(config: KubeProxyConfiguration, word: str) -> None:
    assert word in backend_words(config)


def test_what_is_not_set_is_no_option() -> None:
    assert not {word.partition("=")[0] for word in backend_words(configured())} & {
        "--cluster-cidr",
        "--masquerade-all",
        "--pod-bridge-interface",
        "--pod-interface-name-prefix",
    }


def test_h2_node_ports_are_at_the_nodes_own_addresses_unless_said() -> None:
    assert node_port_addresses(configured()) == ("primary",)
    assert node_port_addresses(configured(nodePortAddresses=["0.0.0.0/0"])) == ("0.0.0.0/0",)


def test_a10_what_is_asked_of_the_api_server() -> None:
    config = configured(clientConnection__kubeconfig="/etc/k")
    usual = kube_options(ProxyOptions(config=config, server="http://a:1"), "node-a")
    assert usual.access == AccessOptions("/etc/k", "http://a:1")
    assert (usual.filters.node, usual.filters.external_ips) == ("node-a", True)
    gated = ProxyOptions(config=configured(featureGates={"AllowServiceExternalIPs": False}))
    assert not kube_options(gated, "node-a").filters.external_ips


def test_p1_p2_conntrack() -> None:
    assert conntrack_limits(configured()) == ConntrackLimits(
        max_per_core=32768, floor=131072, tcp_established=86400, tcp_close_wait=3600
    )
    zero = configured(
        conntrack__maxPerCore=0,
        conntrack__tcpEstablishedTimeout=Duration(),
        conntrack__tcpCloseWaitTimeout=Duration(),
        conntrack__udpTimeout=Duration.parse("30s"),
        conntrack__udpStreamTimeout=Duration.parse("2m"),
        conntrack__tcpBeLiberal=True,
    )
    assert conntrack_limits(zero) == ConntrackLimits(floor=131072, tcp_be_liberal=True, udp=30, udp_stream=120)


# -- U3 ------------------------------------------------------------------------------------------


def rewrite(path: Path) -> None:
    path.write_text("new")


def replace_by_rename(path: Path) -> None:
    beside = path.with_name("beside")
    beside.write_text("new")
    beside.rename(path)


def swap_links(path: Path) -> None:
    """As the kubelet does with a ConfigMap: config.conf -> ..data/config.conf, ..data -> ..<time>."""
    (path.parent / "..2").mkdir()
    (path.parent / "..2" / path.name).write_text("new")
    (path.parent / "..data_tmp").symlink_to("..2")
    (path.parent / "..data_tmp").rename(path.parent / "..data")


def plain(folder: Path) -> Path:
    path = folder / "config.conf"
    path.write_text("old")
    return path


def config_map(folder: Path) -> Path:
    (folder / "..1").mkdir()
    (folder / "..1" / "config.conf").write_text("old")
    (folder / "..data").symlink_to("..1")
    path = folder / "config.conf"
    path.symlink_to("..data/config.conf")
    return path


CHANGES = {
    "rewritten": (plain, rewrite),
    "renamed": (plain, replace_by_rename),
    "a ConfigMap": (config_map, swap_links),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_u3_a_change_of_the_file_ends_it(name: str, tmp_path: Path) -> None:
    make, change = CHANGES[name]
    path = make(tmp_path)
    watching = asyncio.create_task(until_changed(str(path), b"old"))
    await asyncio.sleep(0.3)
    assert not watching.done()
    change(path)
    with pytest.raises(ConfigurationChangedError, match="has changed"):
        async with asyncio.timeout(10):
            await watching


async def test_u3_a_change_before_the_watch_counts(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationChangedError):
        await until_changed(str(plain(tmp_path)), b"older")


async def test_u3_a_link_to_elsewhere_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_watch, "LOOK_AGAIN_SECONDS", 0.1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    target = plain(tmp_path / "elsewhere")
    link = tmp_path / "here" / "link.conf"
    link.symlink_to(target)
    watching = asyncio.create_task(until_changed(str(link), b"old"))
    await asyncio.sleep(0.3)
    assert not watching.done()
    target.write_text("new")
    with pytest.raises(ConfigurationChangedError):
        async with asyncio.timeout(10):
            await watching


@pytest.mark.parametrize(
    "error",
    [
        OSError("OS file watch limit reached"),
        WatchfilesRustInternalError("Error creating recommended watcher: Too many open files (os error 24)"),
    ],
    ids=["no watch is left", "no inotify instance is left"],
)
async def test_u3_where_nothing_can_be_watched_it_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(config_watch, "LOOK_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(config_watch, "awatch", refuse)
    path = plain(tmp_path)
    watching = asyncio.create_task(until_changed(str(path), b"old"))
    await asyncio.sleep(0.15)
    assert not watching.done()
    path.write_text("new")
    with pytest.raises(ConfigurationChangedError):
        async with asyncio.timeout(5):
            await watching


async def test_u3_the_same_content_anew_is_no_change(tmp_path: Path) -> None:
    path = plain(tmp_path)
    watching = asyncio.create_task(until_changed(str(path), b"old"))
    await asyncio.sleep(0.2)
    path.unlink()
    await asyncio.sleep(0.2)
    path.write_text("old")
    path.touch()
    await asyncio.sleep(0.3)
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
