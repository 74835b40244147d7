"""Which proxy: the cases are those of golang.org/x/net/http/httpproxy's own tests, and what people write."""

from __future__ import annotations

import pytest

from kpng.kube.access import Access
from kpng.kube.proxies import proxy_for

PROXY = "http://proxy:3128"


@pytest.fixture(autouse=True)
def _no_other_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


PROXIES: list[tuple[dict[str, str], str, str | None]] = [
    ({}, "https://a.example", None),
    ({"HTTPS_PROXY": PROXY}, "https://a.example:6443", PROXY),
    ({"https_proxy": PROXY}, "https://a.example", PROXY),
    ({"HTTPS_PROXY": "http://upper", "https_proxy": "http://lower"}, "https://a.example", "http://upper"),
    ({"HTTPS_PROXY": "", "https_proxy": PROXY}, "https://a.example", PROXY),
    ({"HTTPS_PROXY": PROXY}, "http://a.example", None),
    ({"HTTP_PROXY": PROXY}, "https://a.example", None),
    ({"http_proxy": PROXY}, "http://a.example", PROXY),
    ({"ALL_PROXY": PROXY}, "http://a.example", None),
    ({"HTTPS_PROXY": "proxy:3128"}, "https://a.example", PROXY),
    ({"HTTPS_PROXY": "joe:p%40ss@proxy"}, "https://a.example", "http://joe:p%40ss@proxy"),
    ({"HTTPS_PROXY": PROXY}, "https://10.0.0.1:6443", PROXY),
    ({"HTTPS_PROXY": PROXY, "NO_PROXY": ",, ,"}, "https://a.example", PROXY),
    ({"HTTPS_PROXY": PROXY, "no_proxy": "a.example"}, "https://a.example", None),
    ({"HTTPS_PROXY": PROXY, "NO_PROXY": "b", "no_proxy": "a.example"}, "https://a.example", PROXY),
    ({"HTTPS_PROXY": PROXY}, "https://localhost:6443", None),
    ({"HTTPS_PROXY": PROXY}, "https://127.0.0.5:6443", None),
    ({"HTTPS_PROXY": PROXY}, "https://[::1]:6443", None),
    ({"HTTPS_PROXY": PROXY}, "https://[::ffff:127.0.0.1]:6443", None),
    ({"HTTPS_PROXY": PROXY}, "https://localhost.example", PROXY),
    ({"HTTPS_PROXY": PROXY}, "https://[bad", None),
    ({"HTTPS_PROXY": PROXY, "NO_PROXY": "a:1"}, "https://a:99999", PROXY),
]


@pytest.mark.parametrize(("environment", "url", "proxy"), PROXIES)
def test_the_proxy(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


EXCEPTIONS: list[tuple[str, str, bool]] = [
    ("*", "https://a.example", True),
    ("b, *", "https://10.0.0.1", True),
    ("a.example", "https://a.example:6443", True),
    ("A.Example", "https://a.EXAMPLE", True),
    (" b , a.example ", "https://a.example", True),
    ("example", "https://a.example", True),
    ("ample", "https://a.example", False),
    (".example", "https://a.example", True),
    (".a.example", "https://a.example", False),
    ("*.example", "https://a.example", True),
    ("*.a.example", "https://a.example", False),
    ("*ample", "https://a.example", False),
    ("a.example:6443", "https://a.example:6443", True),
    ("a.example:6443", "https://a.example", False),
    ("a.example:443", "https://a.example", True),
    (".example:80", "http://a.example", True),
    (".example:80", "https://a.example", False),
    (":443", "https://a.example", False),
    ("10.0.0.1", "https://10.0.0.1:6443", True),
    ("10.0.0.1", "https://10.0.0.11", False),
    ("10.0.0.1:6443", "https://10.0.0.1:6443", True),
    ("10.0.0.1:6443", "https://10.0.0.1", False),
    (".1", "https://10.0.0.1", False),
    ("10.96.0.0/12", "https://10.96.0.1:443", True),
    ("10.96.0.0/12", "https://10.112.0.1:443", False),
    ("10.96.0.7/12", "https://10.96.0.1:443", True),
    ("10.96.0.0/12", "https://a.example", False),
    ("10.96.0.0/99", "https://10.96.0.1", False),
    ("fd00::/8", "https://[fd00::1]:6443", True),
    ("fd00::/8", "https://10.0.0.1", False),
    ("fd00::1", "https://[fd00:0::1]", True),
    ("fd00::1", "https://[fd00::11]", False),
    ("[fd00::1]:6443", "https://[fd00::1]:6443", True),
    ("[fd00::1]:6443", "https://[fd00::1]", False),
    ("10.0.0.1", "https://[::ffff:10.0.0.1]", True),
    ("10.0.0.0/8", "https://[::ffff:10.0.0.1]", True),
]


@pytest.mark.parametrize(("exceptions", "url", "direct"), EXCEPTIONS)
def test_what_needs_no_proxy(exceptions: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, PROXY)
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert proxy_for(url) == (None if direct else PROXY)


@pytest.mark.parametrize("proxy", ["https://joe:secret@proxy", "socks5://joe:secret@proxy"])
def test_a_proxy_of_another_kind_is_told_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert proxy_for("https://a.example") is None
    assert caplog.messages == ["HTTPS_PROXY: only http:// proxies are supported; connecting without it"]


def test_the_proxy_of_the_kubeconfig_counts_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://environment")
    assert Access("https://a.example", proxy=PROXY).proxy == PROXY
    assert Access("https://a.example").proxy == "http://environment"
    monkeypatch.setenv("NO_PROXY", "*")
    assert Access("https://a.example", proxy=PROXY).proxy == PROXY
