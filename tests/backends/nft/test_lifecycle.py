"""What is written when: adoption, repair, ownership, failure, clean-up."""

from __future__ import annotations

import errno
import logging
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.backends.nft import NftBackend, books
from kpng.backends.nft.kernel import ProgrammingError
from kpng.backends.nft.verify import differences
from kpng.host.nftables import TableFlag
from kpng.lab.netns import CommandError
from kpng.model import ChangeSet, IPSet, PortMapping, ServiceChange, UserError

pytestmark = pytest.mark.netns

FOREIGN = "table ip theirs {\n chain c {\n  type filter hook input priority 0\n  tcp dport 1 drop\n }\n}\n"


def same_as_kernel(programmed: Any) -> list[str]:
    """What the kernel's dump has otherwise than the books say."""
    backend = programmed.backend
    return programmed.runner.call(lambda: differences(backend._connection, backend._kernel.books))


def test_the_kernel_has_what_the_books_say(rig: Any, make: Any) -> None:
    backend = rig.start()
    backend.set(make(node_port=30080, local=(1,)), make("sticky", vip=8, session_affinity_seconds=9))
    assert same_as_kernel(backend) == []
    backend.set(make(pods=(1, 4, 5), node_port=30080), make("rejected", vip=9, pods=()))
    assert same_as_kernel(backend) == []
    backend.set()
    assert same_as_kernel(backend) == []


def test_a_change_without_effect_writes_nothing(rig: Any, make: Any) -> None:
    backend = rig.start()
    backend.set(make())
    before = backend.generation()
    backend.set(make())
    backend.set(make(labels={"a": "b"}))
    assert backend.generation() == before


def test_one_change_set_is_one_transaction(rig: Any, make: Any) -> None:
    """Both families, deleted and added services: all at once."""
    backend = rig.start()
    backend.set(*(make(f"s{n}", vip=n) for n in range(1, 20)))
    before = backend.generation()
    backend.set(*(make(f"s{n}", vip=n, pods=(n % 5 + 1,)) for n in range(10, 40)))
    assert backend.generation() == before + 1
    assert same_as_kernel(backend) == []


def test_restart_with_nothing_changed_writes_nothing(rig: Any, make: Any) -> None:
    services = [make(node_port=30080), make("sticky", vip=8, session_affinity_seconds=9)]
    first = rig.start()
    first.set(*services)
    first.stop()
    second = rig.start()
    before = second.generation()
    second.set(*services)
    second.checked()
    assert second.generation() == before
    # and it goes on from there, also owning the tables again
    second.set(services[0], make("sticky", vip=8, session_affinity_seconds=9, pods=(1,)))
    assert same_as_kernel(second) == []
    rig.nft("flush", "ruleset")
    assert same_as_kernel(second) == []


def test_restart_with_changes_replaces(rig: Any, make: Any) -> None:
    first = rig.start()
    first.set(make(node_port=30080), make("gone", vip=8))
    first.stop()
    second = rig.start()
    before = second.generation()
    second.set(make(pods=(1,)))
    assert second.generation() == before + 2  # claim the tables, then all the rest at once
    assert same_as_kernel(second) == []
    assert "10.96.0.8" not in rig.nft("list", "table", "ip", "kpng")


def test_restart_with_other_options_replaces(rig: Any, make: Any) -> None:
    first = rig.start()
    first.set(make())
    first.stop()
    second = rig.start(cluster_cidr=("10.1.0.0/16",))
    second.set(make())
    assert "ip saddr != 10.1.0.0/16" in rig.nft("list", "table", "ip", "kpng")
    assert same_as_kernel(second) == []


def test_adopted_spare_classes_are_used_again(rig: Any, make: Any) -> None:
    first = rig.start()
    first.set(make(pods=(1, 2, 3)))
    first.set(make(pods=(1, 2)))
    first.stop()
    second = rig.start()
    second.set(make(pods=(1, 2)))
    second.checked()
    second.set(make(pods=(1, 2, 3)))
    assert same_as_kernel(second) == []


@pytest.mark.parametrize(
    "lie",
    [
        "delete element ip kpng endpoints { 10.96.0.7 . tcp . 80 . 0 }",
        "add element ip6 kpng cluster_ips { fd00::bad }",
        "delete element ip kpng services { 10.96.0.7 . tcp . 80 }",
        "flush chain ip kpng count_3",
        "flush chain ip6 kpng services",
        "add set ip kpng extra { type ipv4_addr; }",
    ],
)
def test_tables_that_lie_are_found_out_and_repaired(
    rig: Any, make: Any, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The fingerprint is right, what is there is not: nothing is written at first, then verification mends it."""
    first = rig.start()
    first.set(make())
    first.stop()
    rig.nft(lie)
    second = rig.start()
    before = second.generation()
    with caplog.at_level(logging.WARNING):
        second.set(make())
        assert second.generation() == before
        second.checked()
    assert "programming them anew" in caplog.text
    assert same_as_kernel(second) == []


def test_a_table_deleted_by_somebody_before_the_start(rig: Any, make: Any) -> None:
    first = rig.start()
    first.set(make())
    first.stop()
    rig.nft("delete", "table", "ip6", "kpng")
    second = rig.start()
    second.set(make())
    assert same_as_kernel(second) == []


def test_a_table_of_that_name_made_by_somebody(rig: Any, make: Any) -> None:
    rig.nft("-f", "-", stdin="table ip kpng {\n set services { type ipv4_addr; }\n chain count_3 { }\n}\n")
    backend = rig.start()
    backend.set(make())
    assert same_as_kernel(backend) == []


def test_a_foreign_flush_spares_our_tables(rig: Any, make: Any) -> None:
    backend = rig.start()
    backend.set(make())
    rig.nft("-f", "-", stdin=FOREIGN)
    rig.nft("flush", "ruleset")
    assert "theirs" not in rig.nft("list", "tables")
    assert same_as_kernel(backend) == []
    with pytest.raises(CommandError, match="not permitted"):
        rig.nft("delete", "table", "ip", "kpng")


def test_foreign_tables_are_left_alone(rig: Any, make: Any) -> None:
    rig.nft("-f", "-", stdin=FOREIGN)
    before = rig.nft("list", "table", "ip", "theirs")
    first = rig.start()
    first.set(make())
    first.set()
    first.stop()
    rig.start(masquerade_all=True).set(make())
    rig.runner.call(lambda: None)
    assert rig.nft("list", "table", "ip", "theirs") == before


def test_the_rules_stay_on_exit(rig: Any, make: Any) -> None:
    backend = rig.start()
    backend.set(make())
    backend.stop()
    assert "10.96.0.7" in rig.nft("list", "table", "ip", "kpng")
    assert rig.client.reach("10.96.0.7", 80)


def test_two_at_once_do_not_fight(rig: Any, make: Any) -> None:
    rig.start().set(make())
    with pytest.raises(ProgrammingError, match="belongs to another process"):
        rig.start().set(make(pods=(1,)))
    with pytest.raises(UserError, match="stop kpng first"):
        rig.runner.run(NftBackend.cleanup())


def test_cleanup(rig: Any, make: Any) -> None:
    backend = rig.start()
    backend.set(make())
    backend.stop()
    assert rig.runner.run(NftBackend.cleanup()) == "removed table ip kpng and table ip6 kpng"
    assert "kpng" not in rig.nft("list", "tables")
    assert rig.runner.run(NftBackend.cleanup()) == "no table of kpng is there"


class TestFailure:
    """Somebody changes our table behind our back (an owner cannot be kept from that, so without ownership)."""

    @pytest.fixture
    def unowned(self, rig: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr("kpng.backends.nft.kernel._OWNED", TableFlag.NONE)
        return rig.start()

    def test_names_element_and_service_and_changes_nothing(self, rig: Any, make: Any, unowned: Any) -> None:
        unowned.set(make(), make("other", vip=8))
        rig.nft("delete", "element", "ip", "kpng", "endpoints", "{ 10.96.0.7 . tcp . 80 . 2 }")
        with pytest.raises(ProgrammingError) as caught:
            unowned.set(make(pods=(1,)), make("third", vip=9))
        assert "10.96.0.7 . tcp . 80 . 2" in str(caught.value)
        assert "demo/web" in str(caught.value)
        assert "10.96.0.9" not in rig.nft("list", "map", "ip", "kpng", "services")
        assert len(unowned.backend._kernel.books.services) == 2

    def test_the_next_attempt_mends_all(self, rig: Any, make: Any, unowned: Any) -> None:
        unowned.set(make())
        rig.nft("flush", "ruleset")
        with pytest.raises(ProgrammingError):
            unowned.set(make(pods=(1,)))
        unowned.set(make(pods=(1,)))
        assert same_as_kernel(unowned) == []

    def test_a_kernel_without_persistent_owners(
        self, rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Flags the kernel does not know: go on without."""
        monkeypatch.setattr("kpng.backends.nft.kernel._OWNED", TableFlag(0x100))
        backend = rig.start()
        with caplog.at_level(logging.INFO):
            backend.set(make())
        assert "no persistent table owners" in caplog.text
        assert same_as_kernel(backend) == []


def test_a_lost_answer_is_not_taken_for_success_nor_failure(
    rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has committed, but we do not know: the next attempt says all of it anew."""
    backend = rig.start()
    backend.set(make())
    connection = backend.backend._connection
    commit = connection.commit

    def lose_the_answer(parts: Any) -> None:
        commit(parts)
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(connection, "commit", lose_the_answer)
    with pytest.raises(OSError, match="No buffer space"):
        backend.set(make(pods=(1,)))
    monkeypatch.setattr(connection, "commit", commit)
    backend.set(make(pods=(1, 4)))
    assert same_as_kernel(backend) == []


class TestDuplicates:
    def test_first_by_name_owns_and_the_other_takes_over(
        self, rig: Any, make: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend = rig.start()
        later, first = make("zebra", pods=(2,)), make("aardvark", pods=(1,))
        backend.set(later)
        assert rig.client.reach("10.96.0.7", 80)[0] == "10.1.0.2"
        backend.set(later, first)
        assert rig.client.reach("10.96.0.7", 80)[0] == "10.1.0.1"
        assert "Service demo/zebra: port 80: cluster IP 10.96.0.7:80/TCP already" in caplog.text
        assert "already belongs to service demo/aardvark" in caplog.text
        assert len(backend.backend.problems) == 2  # one for each family
        assert same_as_kernel(backend) == []
        backend.set(later)
        assert rig.client.reach("10.96.0.7", 80)[0] == "10.1.0.2"
        assert len(backend.backend.problems) == 0
        assert same_as_kernel(backend) == []

    def test_nobody_takes_a_cluster_ip_as_an_external_ip(self, rig: Any, make: Any) -> None:
        """CVE-2020-8554, as far as a proxy can."""
        thief = make("aaa", vip=66, pods=(5,), external_ips=IPSet(("10.96.0.7",)))
        rig.start().set(thief, make())
        assert set(rig.client.count(20, "10.96.0.7", 80)) <= {"10.1.0.1", "10.1.0.2", "10.1.0.3"}

    def test_within_one_service(self, rig: Any, make: Any) -> None:
        """Two ports of one number: the first counts. An address that is there twice is no problem."""
        service = make(external_ips=IPSet(("203.0.113.7",)), load_balancer_ips=IPSet(("203.0.113.7",)))
        ports = (*service.service.ports, PortMapping(80, name="again", target_port=8081, available=3))
        twice = replace(service.service, ports=ports)
        backend = rig.start()
        backend.set(type(service)(twice, service.endpoints))
        assert {p.message.split(" already ")[1] for p in backend.backend.problems.current} == {
            "belongs to another port of this service"
        }
        assert same_as_kernel(backend) == []


def test_a_reset_while_running_is_a_diff(rig: Any, make: Any) -> None:
    """A second full change set (a reconnect) does not start over."""
    backend = rig.start()
    backend.set(make(), make("gone", vip=8))
    before = backend.generation()
    backend.apply(ChangeSet({make().service.key: ServiceChange(None, make())}, full=True))
    assert backend.generation() == before + 1
    assert same_as_kernel(backend) == []
    assert "10.96.0.8" not in rig.nft("list", "table", "ip", "kpng")


def test_classes_made_in_advance(rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there, lead somewhere, and an adoption takes them over."""
    monkeypatch.setattr(books, "MANY_ELEMENTS", 1)
    first = rig.start()
    first.set(make(pods=(1, 2, 3)))
    table = rig.nft("list", "table", "ip", "kpng")
    assert table.count("chain count_") == 33
    first.set(make(pods=(1, 2)))
    assert set(rig.client.count(30, "10.96.0.7", 80)) == {"10.1.0.1", "10.1.0.2"}
    first.stop()
    second = rig.start()
    second.set(make(pods=(1, 2)))
    second.set(make(pods=(1, 2, 3, 4)))
    assert same_as_kernel(second) == []
    assert rig.nft("list", "table", "ip", "kpng").count("chain count_") == 33


def test_more_spare_classes_than_are_kept(rig: Any, make: Any) -> None:
    backend = rig.start()
    for seconds in range(1, 50):
        backend.set(make(session_affinity_seconds=seconds))
    backend.set(make())
    assert rig.nft("list", "table", "ip", "kpng").count("chain affinity_") == 32
    assert same_as_kernel(backend) == []


def test_without_root(rig: Any) -> None:
    """In a user namespace without rights over the network there is one clear line."""
    script = "import asyncio; from kpng.backends.nft import NftBackend; asyncio.run(NftBackend().start())"
    with pytest.raises(CommandError, match="UserError: to-nft needs root"):
        rig.client.namespace.run(
            "setpriv",
            "--bounding-set",
            "-net_admin",
            "--inh-caps",
            "-net_admin",
            "--reuid",
            "65534",
            "--clear-groups",
            __import__("sys").executable,
            "-c",
            script,
        )
