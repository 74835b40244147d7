"""Whose tables they are: several kpngs, other people's rules, leftovers of any kind, upgrades, clean-up."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from kpng.backends.nft import NftBackend
from kpng.backends.nft import layout as layout_module
from kpng.backends.nft.kernel import ProgrammingError
from kpng.backends.nft.verify import differences
from kpng.host.nftables import Nftables, TableFlag
from kpng.lab.netns import CommandError
from kpng.model import ChangeSet, ServiceChange, UserError

pytestmark = pytest.mark.netns

VIP = "10.96.0.7"
PODS = [f"10.1.0.{n}" for n in range(1, 6)]
NOT_OURS = """
table ip theirs {
    map m { type ipv4_addr : verdict; elements = { 10.96.0.7 : accept }; }
    chain c { type filter hook input priority 0; ip daddr vmap @m; }
}
table inet kpng {
    set services { type ipv4_addr; elements = { 10.96.0.7 }; }
    chain services { ip daddr @services counter; }
}
table bridge kpng {
    chain c { type filter hook forward priority 0; }
}
"""


def differs(programmed: Any) -> list[str]:
    backend = programmed.backend
    return programmed.runner.call(lambda: differences(backend._connection, backend._kernel.books))


def without_counters(text: str) -> str:
    return re.sub(r"packets \d+ bytes \d+", "", text)


def others(rig: Any) -> list[str]:
    tables = (("ip", "theirs"), ("inet", "kpng"), ("bridge", "kpng"))
    return [without_counters(rig.nft("list", "table", *table)) for table in tables]


class TestTwoAtOnce:
    def test_the_second_is_told_and_changes_nothing(self, rig: Any, make: Any) -> None:
        first, second = rig.start(), rig.start()
        first.set(make(pods=(1,)))
        before = rig.nft("list", "table", "ip", "kpng")
        for _ in range(3):
            with pytest.raises(ProgrammingError, match=r"belongs to another process \(is another kpng running"):
                second.set(make(pods=(2,)))
        assert rig.nft("list", "table", "ip", "kpng") == before
        first.set(make(pods=(3,)))
        assert set(rig.client.count(5, VIP, 80)) == {PODS[2]}
        assert differs(first) == []

    def test_the_second_takes_over_when_the_first_ends(self, rig: Any, make: Any) -> None:
        """As the runtime would: the same change again until it succeeds."""
        first, second = rig.start(), rig.start()
        first.set(make(pods=(1,)))
        with pytest.raises(ProgrammingError):
            second.set(make(pods=(2,)))
        first.stop()
        second.set(make(pods=(2,)))
        assert set(rig.client.count(5, VIP, 80)) == {PODS[1]}
        assert differs(second) == []

    def test_the_second_with_the_same_state_waits_with_its_first_change(self, rig: Any, make: Any) -> None:
        """It adopts what is there without writing, so nothing fails until it has something to write."""
        first, second = rig.start(), rig.start()
        first.set(make(pods=(1,)))
        second.set(make(pods=(1,)))
        with pytest.raises(ProgrammingError, match="another process"):
            second.set(make(pods=(2,)))
        assert set(rig.client.count(5, VIP, 80)) == {PODS[0]}
        first.stop()
        second.set(make(pods=(2,)))
        assert set(rig.client.count(5, VIP, 80)) == {PODS[1]}
        assert differs(second) == []

    def test_cleanup_is_refused_and_removes_nothing(self, rig: Any, make: Any) -> None:
        rig.start().set(make(pods=(1,)))
        with pytest.raises(UserError, match="belong to a process that still runs"):
            rig.runner.run(NftBackend.cleanup())
        assert rig.client.reach(VIP, 80)[0] == PODS[0]


class TestOthers:
    def test_their_rules_stay_to_the_letter(self, rig: Any, make: Any) -> None:
        """Also in tables of our name in other families; through start, change, restart, replacement, clean-up."""
        rig.nft("-f", "-", stdin=NOT_OURS)
        before = others(rig)
        first = rig.start()
        first.set(make(node_port=30080))
        first.set(make(pods=(1,)), make("other", vip=8))
        first.stop()
        second = rig.start(masquerade_all=True)
        second.set(make())
        second.backend._kernel.known = False
        second.set(make(pods=(1, 2)))
        second.stop()
        assert rig.runner.run(NftBackend.cleanup()) == "removed table ip kpng and table ip6 kpng"
        assert others(rig) == before

    @pytest.mark.parametrize(
        "command",
        [
            "add element ip kpng cluster_ips { 10.9.9.9 }",
            "delete table ip6 kpng",
            "flush chain ip kpng services",
            "add chain ip kpng theirs",
            "add rule ip kpng services drop",
            "flush set ip kpng cluster_ips",
        ],
    )
    def test_nobody_changes_ours_while_we_run(self, rig: Any, make: Any, command: str) -> None:
        backend = rig.start()
        backend.set(make())
        with pytest.raises(CommandError, match="not permitted"):
            rig.nft(command)
        assert differs(backend) == []

    def test_a_foreign_flush_between_two_runs(self, rig: Any, make: Any) -> None:
        """Nobody owns the tables then, so they go; the next run makes them again."""
        first = rig.start()
        first.set(make(pods=(1,)))
        first.stop()
        rig.nft("flush", "ruleset")
        assert "kpng" not in rig.nft("list", "tables")
        second = rig.start()
        second.set(make(pods=(1,)))
        assert rig.client.reach(VIP, 80)[0] == PODS[0]
        assert differs(second) == []

    def test_a_foreign_flush_in_the_middle_of_traffic(self, rig: Any, make: Any) -> None:
        rig.nft("-f", "-", stdin=NOT_OURS)
        rig.start().set(make())
        for _ in range(5):
            rig.nft("flush", "ruleset")
            assert sum(rig.client.count(10, VIP, 80).values()) == 10
        assert "theirs" not in rig.nft("list", "tables")


LEFTOVERS = {
    "an empty table": "table ip kpng { }",
    "only one family's": "table ip6 kpng {\n chain services { }\n}",
    "sets of our names and other types": """table ip kpng {
        map services { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1 }; }
        set endpoints { type ether_addr; }
        map affinity_clients { type ipv4_addr : mark; flags dynamic,timeout; size 10; }
    }""",
    "a fingerprint that says nothing": """table ip kpng {
        set state { type mark; elements = { 0x0 comment "nonsense" }; }
    }""",
    "a state that is no set of numbers": "table ip kpng {\n map state { type ipv4_addr : verdict; }\n}",
    "base chains that drop everything": """table ip kpng {
        chain nat_prerouting { type filter hook prerouting priority -300; policy drop; }
        chain other { type filter hook forward priority 0; policy drop; }
    }""",
    "chains in a circle of maps": """table ip kpng {
        chain count_1 { } ; chain count_2 { }
        map classes { type mark : verdict; elements = { 1 : jump count_1, 2 : goto count_2 }; }
        chain services { meta mark vmap @classes; jump count_2; }
    }""",
    "counters, quotas and limits": """table ip kpng {
        counter c { }
        quota q { over 100 mbytes }
        map which { type ipv4_addr : counter; elements = { 10.0.0.1 : "c" }; }
        chain services { counter name "c"; quota name "q"; limit rate 1/second accept;
            counter name ip daddr map @which; }
    }""",
}


class TestLeftovers:
    @pytest.mark.parametrize("name", LEFTOVERS)
    def test_whatever_is_there_is_replaced(self, rig: Any, make: Any, name: str) -> None:
        rig.nft("-f", "-", stdin=LEFTOVERS[name])
        backend = rig.start()
        backend.set(make(pods=(1,), session_affinity_seconds=9, node_port=30080))
        assert differs(backend) == []
        assert rig.client.reach(VIP, 80)[0] == rig.client.reach("192.0.2.1", 30080)[0] == PODS[0]

    @pytest.mark.parametrize("name", LEFTOVERS)
    def test_and_cleaned_up(self, rig: Any, name: str) -> None:
        rig.nft("-f", "-", stdin=LEFTOVERS[name])
        assert rig.runner.run(NftBackend.cleanup()).startswith("removed table ip")
        assert rig.nft("list", "ruleset") == ""

    def test_one_table_of_the_two_is_ours(self, rig: Any, make: Any) -> None:
        """Half of an earlier run and half of something else: both are programmed, and both are owned."""
        first = rig.start()
        first.set(make(pods=(1,)))
        first.stop()
        rig.nft("delete", "table", "ip6", "kpng")
        rig.nft("-f", "-", stdin="table ip6 kpng {\n chain services { drop; }\n}")
        second = rig.start()
        second.set(make(pods=(1,)))
        assert differs(second) == []
        assert rig.client.reach("fd00:96::7", 80)[0] == "fd00:1::1"
        for family in ("ip", "ip6"):
            with pytest.raises(CommandError, match="not permitted"):
                rig.nft("delete", "table", family, "kpng")

    def test_a_right_fingerprint_over_nothing(self, rig: Any, make: Any) -> None:
        """Somebody copied only the fingerprint."""
        first = rig.start()
        first.set(make(pods=(1,)))
        first.stop()
        prints = [
            re.search(r'comment "(\w+-\w+)"', rig.nft("list", "set", f, "kpng", "state")) for f in ("ip", "ip6")
        ]
        rig.nft("flush", "ruleset")
        for family, found in zip(("ip", "ip6"), prints, strict=True):
            assert found
            comment = f'elements = {{ 0 comment "{found[1]}" }}'
            fake = f"table {family} kpng {{\n set state {{ type mark; {comment}; }}\n}}"
            rig.nft("-f", "-", stdin=fake)
        second = rig.start()
        with pytest.raises(OSError, match="No such file"):  # no maps of classes: there is no adopting that
            second.set(make(pods=(1,)))
        second.set(make(pods=(1,)))
        assert differs(second) == []


class TestUpgrade:
    """Another version's fixed part: everything is replaced but the map of clients."""

    def replaced(
        self, rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]
    ) -> tuple[str, str]:
        sticky = make(session_affinity_seconds=600)
        first = rig.start()
        first.set(sticky)
        before = rig.client.reach(VIP, 80)[0]
        first.stop()
        change()
        second = rig.start()
        second.set(sticky)
        assert differs(second) == []
        after = rig.client.count(12, VIP, 80)
        assert len(after) == 1
        return before, next(iter(after))

    def test_other_sets_and_priorities(self, rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def upgrade() -> None:
            plain = layout_module.Layout._sets
            extra = layout_module.Set("of_the_new_version", (layout_module.MARK,))
            monkeypatch.setattr(layout_module.Layout, "_sets", lambda self: [extra, *plain(self)])

        before, after = self.replaced(rig, make, monkeypatch, upgrade)
        assert before == after
        assert "of_the_new_version" in rig.nft("list", "sets", "ip")

    def test_a_set_of_an_old_version_goes(self, rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def downgrade() -> None:
            plain = layout_module.Layout._sets
            kept = {"state", "affinity_clients"}
            assert kept <= {found.name for found in plain(layout_module.Layout(4, layout_module.Options()))}
            monkeypatch.setattr(layout_module, "HAIRPIN", "hairpins")
            monkeypatch.setattr("kpng.backends.nft.contents.HAIRPIN", "hairpins")

        before, after = self.replaced(rig, make, monkeypatch, downgrade)
        assert before == after
        names = re.findall(r"set (\w+)", rig.nft("list", "sets", "ip"))
        assert "hairpins" in names
        assert "hairpin" not in names

    def test_a_clients_map_of_another_shape_is_not_kept(
        self, rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its keys would mean something else; clients are spread anew."""
        first = rig.start()
        first.set(make(session_affinity_seconds=600))
        first.stop()
        clients = "map affinity_clients { type ipv4_addr : mark; flags dynamic,timeout; size 99; }"
        text = f"table ip kpng {{\n {clients}\n}}"
        rig.nft("delete", "table", "ip", "kpng")
        rig.nft("-f", "-", stdin=text)
        second = rig.start()
        second.set(make(session_affinity_seconds=600))
        assert differs(second) == []
        assert "size 1048576" in rig.nft("list", "map", "ip", "kpng", "affinity_clients")
        assert len(rig.client.count(10, VIP, 80)) == 1


class TestOldKernel:
    """No owner and persist flags: everything else works, and a foreign flush is noticed at the next write."""

    @pytest.fixture
    def old(self, rig: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Unknown flags are what an old kernel says EOPNOTSUPP or EINVAL to."""
        monkeypatch.setattr("kpng.backends.nft.kernel._OWNED", TableFlag(0x100))
        return rig

    def test_said_once(self, old: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            backend = old.start()
            for pods in ((1,), (2,), (3,)):
                backend.set(make(pods=pods))
        assert caplog.text.count("no persistent table owners") == 1
        assert "owner" not in old.nft("list", "table", "ip", "kpng")
        assert differs(backend) == []

    def test_adopted_without_a_write(self, old: Any, make: Any) -> None:
        first = old.start()
        first.set(make(pods=(1,)))
        first.stop()
        second = old.start()
        before = second.generation()
        second.set(make(pods=(1,)))
        second.checked()
        assert second.generation() == before
        second.set(make(pods=(2,)))
        assert set(old.client.count(5, VIP, 80)) == {PODS[1]}

    def test_a_foreign_flush_is_mended_by_the_next_change(self, old: Any, make: Any) -> None:
        backend = old.start()
        backend.set(make(pods=(1,)))
        old.nft("flush", "ruleset")
        with pytest.raises(ProgrammingError):
            backend.set(make(pods=(2,)))
        backend.set(make(pods=(2,)))
        assert set(old.client.count(5, VIP, 80)) == {PODS[1]}
        assert differs(backend) == []

    def test_affinity_survives_a_replacement(self, old: Any, make: Any) -> None:
        first = old.start()
        first.set(make(session_affinity_seconds=60))
        pod = old.client.reach(VIP, 80)[0]
        first.stop()
        old.start(masquerade_all=True).set(make(session_affinity_seconds=60))
        assert set(old.client.count(8, VIP, 80)) == {pod}

    def test_a_new_kernel_later(self, old: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The machine got a new kernel (or a kpng that knows the flags): the tables are made again, with them."""
        first = old.start()
        first.set(make(pods=(1,)))
        first.stop()
        monkeypatch.undo()
        second = old.start(masquerade_all=True)
        second.set(make(pods=(1,)))
        assert old.client.reach(VIP, 80)[0] == PODS[0]
        with pytest.raises(CommandError, match="not permitted"):
            old.nft("delete", "table", "ip", "kpng")


def test_what_the_kernel_refuses_is_named(rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only elements: here a rule that looks up a map that is not there. All is as it was before."""
    backend = rig.start()
    backend.set(make(pods=(1,)))
    connection: Nftables = backend.backend._connection
    commit = connection.commit

    def spoiled(parts: list[bytes]) -> None:
        commit([part.replace(b"affinity_numbers\0", b"affinity_number5\0") for part in parts])

    monkeypatch.setattr(connection, "commit", spoiled)
    with pytest.raises(ProgrammingError, match=r"nf_tables refused: new rule ip kpng affinity_5s_3: No such file"):
        backend.set(make(pods=(1,)), make("sticky", vip=8, session_affinity_seconds=5))
    assert set(rig.client.count(3, VIP, 80)) == {PODS[0]}
    monkeypatch.undo()
    backend.set(make(pods=(1,)), make("sticky", vip=8, session_affinity_seconds=5))
    assert differs(backend) == []


def test_work_for_all_services_is_never_done_in_the_event_loop(rig: Any, make: Any) -> None:
    """After a failure even a small change programs everything: it must not stop streams and health checks."""
    services = [make(f"s{n}", vip=n) for n in range(1, 200)]
    backend = rig.start()
    backend.set(*services)
    backend.backend._kernel.known = False
    kernel = backend.backend._kernel
    threads: list[str] = []
    apply = kernel.apply

    def noted(*arguments: Any, **options: Any) -> Any:
        threads.append(__import__("threading").current_thread().name)
        return apply(*arguments, **options)

    kernel.apply = noted
    change = make("s1", vip=1, pods=(5,))
    for _ in range(2):
        backend.apply(ChangeSet({change.service.key: ServiceChange(services[0], change)}))
    assert "asyncio" in threads[0]  # a worker of the event loop
    assert "asyncio" not in threads[1]
    assert set(rig.client.count(3, "10.96.0.1", 80)) == {PODS[4]}


def test_scaling_up_and_down_under_traffic_never_sends_to_a_pod_that_went(rig: Any, make: Any) -> None:
    """Once the change is made, not one new connection goes to what was taken away."""
    backend = rig.start()
    end = time.monotonic() + 3
    number = 0
    while time.monotonic() < end:
        pods = ((1, 2), (3, 4, 5), (1,), (2, 3, 4, 5))[number % 4]
        backend.set(make(pods=pods))
        assert set(rig.client.count(8, VIP, 80)) <= {PODS[n - 1] for n in pods}
        number += 1
    assert number > 10


def test_cleanup_twice_and_on_an_empty_machine(rig: Any) -> None:
    for _ in range(2):
        assert rig.runner.run(NftBackend.cleanup()) == "no table of kpng is there"
