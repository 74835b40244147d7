"""Somebody else writes to nf_tables while we run: ours is repaired and claimed; what is elsewhere costs nothing."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.backends.nft import guard as guard_module
from kpng.backends.nft.verify import differences
from kpng.host.netlink import DumpInterruptedError
from kpng.host.nftables import TableFlag
from kpng.lab.netns import CommandError

pytestmark = pytest.mark.netns

FOREIGN = "table ip theirs {\n chain c {\n  type filter hook input priority 0\n  tcp dport 1 drop\n }\n}\n"
BOUND_SECONDS = 2.0
"""Drift is to be mended within this time."""
DAMAGE = [
    "flush ruleset",
    "delete table ip kpng",
    "delete table ip6 kpng",
    "flush table ip kpng",
    "flush chain ip kpng services",
    "flush map ip kpng endpoints",
    "delete element ip kpng endpoints { 10.96.0.7 . tcp . 80 . 0 }",
    "add element ip kpng cluster_ips { 10.96.0.99 }",
    "add rule ip kpng services drop",
]


def differs(programmed: Any) -> list[str]:
    backend = programmed.backend
    return programmed.runner.call(lambda: differences(backend._connection, backend._kernel.books))


@pytest.fixture
def adopted(rig: Any, make: Any) -> Any:
    """A backend that found its tables as they should be, and has written nothing."""
    first = rig.start()
    first.set(make(), make("other", vip=8))
    first.stop()
    second = rig.start()
    second.set(make(), make("other", vip=8))
    second.checked()
    assert not second.backend._kernel.owned
    return second


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_repaired_without_a_change_of_state(
    rig: Any, adopted: Any, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig.nft(damage)
    adopted.wait(BOUND_SECONDS)
    assert differs(adopted) == []
    assert rig.client.reach("10.96.0.7", 80)
    assert caplog.text.count("not as programmed") == 1
    with pytest.raises(CommandError, match="not permitted"):  # from now on the kernel keeps others out
        rig.nft("delete", "table", "ip", "kpng")


def test_a_write_elsewhere_makes_us_claim_what_is_right(
    rig: Any, adopted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = adopted.generation()
    rig.nft("-f", "-", stdin=FOREIGN)
    adopted.checked()
    assert adopted.generation() == before + 2  # theirs, and the claim
    assert "not as programmed" not in caplog.text
    rig.nft("flush", "ruleset")
    assert differs(adopted) == []


def test_no_write_of_others_no_work(adopted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "differences", lambda *_: pytest.fail("read for nothing"))
    before = adopted.generation()
    adopted.wait(2.5 * guard_module.CHECK_SECONDS)
    adopted.checked()
    assert adopted.generation() == before


def test_owned_tables_are_not_read_whatever_others_write(
    rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = rig.start()
    backend.set(make())
    backend.checked()
    monkeypatch.setattr(guard_module, "differences", lambda *_: pytest.fail("read for nothing"))
    for number in range(3):
        rig.nft("add", "table", "ip", f"theirs{number}")
        backend.checked()
    assert differs(backend) == []


def test_a_kernel_without_owners_is_guarded_all_the_time(
    rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kpng.backends.nft.kernel._OWNED", TableFlag.NONE)
    backend = rig.start()
    backend.set(make())
    for damage in DAMAGE:
        rig.nft(damage)
        backend.checked()
        assert differs(backend) == []
        backend.set(make(pods=(1,)))
        backend.set(make())
        assert differs(backend) == []
    assert caplog.text.count("not as programmed") == len(DAMAGE)


def test_another_kpng_has_them_until_it_ends(
    rig: Any, make: Any, adopted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, tried again and again, done when the other is gone."""
    other = rig.start(masquerade_all=True)
    other.set(make())
    for _ in range(3):
        adopted.checked()
    assert caplog.text.count("belongs to another process") == 1
    other.stop()
    adopted.wait(BOUND_SECONDS)
    assert differs(adopted) == []


def test_a_change_that_comes_before_the_guard_saw_the_damage(rig: Any, make: Any, adopted: Any) -> None:
    """The change is applied to what is there; what else is missing is found all the same."""
    rig.nft("flush", "chain", "ip", "kpng", "services")
    adopted.set(make(pods=(1,)), make("other", vip=8))
    adopted.checked()
    assert differs(adopted) == []


def test_the_guard_survives_a_connection_that_fails(
    adopted: Any, rig: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection = adopted.backend._connection
    with monkeypatch.context() as broken:
        broken.setattr(connection, "generation", lambda: (_ for _ in ()).throw(OSError(105, "No buffer space")))
        adopted.wait(2 * guard_module.CHECK_SECONDS)
    assert "cannot look after the tables" in caplog.text
    rig.nft("flush", "ruleset")
    adopted.wait(BOUND_SECONDS)
    assert differs(adopted) == []


def test_changes_go_on_while_tables_are_read_back(rig: Any, make: Any, adopted: Any) -> None:
    """A check that was overtaken by changes looks again, and takes nothing of them for damage."""
    rig.nft("add", "table", "ip", "theirs")
    for number in range(20):
        adopted.set(make(pods=(1 + number % 5,)), make("other", vip=8))
    adopted.checked()
    assert adopted.backend._kernel.owned
    assert differs(adopted) == []


def test_the_guard_survives_others_who_write_all_the_time(
    adopted: Any, rig: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A dump that others' writes interrupt again and again tells of no damage, and so nothing is written."""

    def interrupted(_: bytes) -> list[bytes]:
        raise DumpInterruptedError

    rig.nft("add", "table", "ip", "theirs")
    before = adopted.generation()
    with monkeypatch.context() as busy:
        busy.setattr(adopted.backend._connection._socket, "dump", interrupted)
        adopted.wait(4 * guard_module.CHECK_SECONDS)
    assert adopted.generation() == before
    assert caplog.text.count("kept changing") == 1
    rig.nft("flush", "ruleset")
    adopted.wait(BOUND_SECONDS)
    assert differs(adopted) == []


def test_the_guard_survives_what_nobody_thought_of(
    adopted: Any, rig: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.nft("add", "table", "ip", "theirs")
    with monkeypatch.context() as broken:
        broken.setattr(guard_module, "differences", lambda *_: {}["no such key"])
        adopted.wait(4 * guard_module.CHECK_SECONDS)
    assert caplog.text.count("cannot look after the tables") == 1
    rig.nft("flush", "ruleset")
    adopted.wait(BOUND_SECONDS)
    assert differs(adopted) == []
