from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kpng.backends import Backend, backend_names, load_backend
from kpng.backends.print import PrintBackend
from kpng.model import UserError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package that offers backends, as an installer would leave it on disk."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(package: str, code: str, **backends: str) -> None:
        (tmp_path / f"{package}.py").write_text(code)
        metadata = tmp_path / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}:{value}" for name, value in backends.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[kpng.backends]", *lines, ""]))

    return install


GOOD = """
from kpng.backends import Backend

class Hosts(Backend):
    async def apply(self, changes):
        pass

class Abstract(Backend):
    pass

def function():
    pass
"""


def test_our_own_backends_are_found_like_everybodys() -> None:
    assert {"exec", "nft", "print"} <= set(backend_names())
    assert load_backend("print") is PrintBackend


def test_an_installed_package_adds_a_backend(install: Install) -> None:
    install("kpt_good", GOOD, hosts="Hosts")
    assert "hosts" in backend_names()
    loaded = load_backend("hosts")
    assert issubclass(loaded, Backend)
    assert loaded.__name__ == "Hosts"


def test_an_unknown_name_tells_which_there_are() -> None:
    with pytest.raises(UserError, match=r"no backend named 'nonsense'; installed: .*exec.*print"):
        load_backend("nonsense")


BROKEN = [
    ("a missing dependency", "import kpt_no_such_module", "Hosts", "cannot be imported: No module named"),
    ("a syntax error", "def", "Hosts", "cannot be imported: invalid syntax"),
    ("an exception", "raise RuntimeError('boom')", "Hosts", "cannot be imported: boom"),
    ("a missing class", GOOD, "Nothing", "cannot be imported: .*no attribute 'Nothing'"),
    ("no class", GOOD, "function", "not a subclass of kpng.Backend"),
    ("a class of something else", "Hosts = dict", "Hosts", "not a subclass of kpng.Backend"),
    ("a class without apply", GOOD, "Abstract", r"does not define apply\(\)"),
]


@pytest.mark.parametrize(("code", "value", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_broken_package_is_named_in_one_line(
    install: Install, request: pytest.FixtureRequest, code: str, value: str, message: str
) -> None:
    package = f"kpt_broken_{BROKEN.index((request.node.callspec.id, code, value, message))}"
    install(package, code, broken=value)
    assert "broken" in backend_names()
    with pytest.raises(UserError, match=message) as caught:
        load_backend("broken")
    assert f"{package}:{value}" in str(caught.value)


def test_two_packages_with_one_name_are_both_named(install: Install) -> None:
    install("kpt_one", GOOD, hosts="Hosts")
    install("kpt_two", GOOD, hosts="Hosts")
    assert backend_names().count("hosts") == 1
    with pytest.raises(UserError, match="several installed packages offer a backend 'hosts': kpt_one, kpt_two"):
        load_backend("hosts")


def test_nobody_takes_the_name_of_one_of_ours(install: Install) -> None:
    install("kpt_thief", GOOD, print="Hosts")
    with pytest.raises(UserError, match="kpng, kpt_thief"):
        load_backend("print")


async def test_what_a_backend_may_leave_out_does_nothing() -> None:
    class Least(Backend):
        async def apply(self, changes: object) -> None:
            pass

    backend = Least()
    await backend.start()
    await backend.stop()
    assert await Least.cleanup() == "nothing to clean up"
    assert (Least.help, Least.options) == ("", ())
