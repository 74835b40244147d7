"""``kpng proxy`` as a process, as far as it goes without an API server and without root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kpng

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


def proxy(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kpng", "proxy", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.conf"
    path.write_text(HEAD + "mode: nftables\nhostnameOverride: from-file\n")
    return path


@pytest.mark.parametrize("word", ["--version", "--version=true", "--version=raw"])
def test_version(word: str) -> None:
    done = proxy(word)
    assert (done.returncode, done.stdout) == (0, f"kpng {kpng.__version__}\n")


def test_help_shows_what_kube_proxy_shows() -> None:
    done = proxy("--help")
    assert done.returncode == 0
    assert "--healthz-bind-address" in done.stdout
    assert "--healthz-port" not in done.stdout, "deprecated ones are hidden"
    for default in ("0.0.0.0:10256", "127.0.0.1:10249", "24h0m0s", "131072", "-999", "true"):
        assert f"[default: {default}]" in " ".join(done.stdout.split())


def test_write_config_to(tmp_path: Path) -> None:
    path = tmp_path / "out.yaml"
    assert proxy("--cluster-cidr=10.0.0.0/8", f"--write-config-to={path}").returncode == 0
    again = tmp_path / "again.yaml"
    done = proxy(f"--config={path}", f"--write-config-to={again}")
    assert done.returncode == 0
    assert "WARNING" not in done.stderr
    assert again.read_text() == path.read_text()
    assert "clusterCIDR: 10.0.0.0/8" in path.read_text()


def test_u1_flags_beside_a_file(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.yaml"
    done = proxy(
        f"--config={config}", "--hostname-override=flag", "--cluster-cidr=10.0.0.0/8", f"--write-config-to={out}"
    )
    assert "not heeded beside --config: --cluster-cidr" in done.stderr
    assert "hostnameOverride: flag" in out.read_text()
    assert 'clusterCIDR: ""' in out.read_text()


def test_u2_what_is_unknown_is_told_and_the_rest_read(config: Path, tmp_path: Path) -> None:
    config.write_text(HEAD + "modee: x\nhostnameOverride: from-file\nhostnameOverride: last\n")
    out = tmp_path / "out.yaml"
    done = proxy(f"--config={config}", f"--write-config-to={out}")
    assert done.returncode == 0
    assert f"{config}: unknown field modee" in done.stderr
    assert f"{config}:5: hostnameOverride is given twice" in done.stderr
    assert "hostnameOverride: last" in out.read_text()


def test_fields_that_are_not_heeded_are_named(config: Path, tmp_path: Path) -> None:
    config.write_text(HEAD + "enableProfiling: true\nipvs: {scheduler: lc}\n")
    done = proxy(f"--config={config}", f"--write-config-to={tmp_path / 'out'}")
    assert "enableProfiling is set, and not heeded: " in done.stderr
    assert "ipvs.scheduler is set, and not heeded: " in done.stderr


def test_logging_follows_the_configuration(config: Path, tmp_path: Path) -> None:
    config.write_text(HEAD + "logging: {format: json}\nenableProfiling: true\n")
    done = proxy(f"--config={config}", f"--write-config-to={tmp_path / 'out'}")
    assert done.stderr.startswith('{"time": ')


MISTAKES = {
    "no file": (["--config=/nowhere/x"], "--config /nowhere/x: No such file or directory"),
    "not yaml": (["--config={config}"], ": not valid YAML"),
    "ipvs": (["--proxy-mode=ipvs"], "mode ipvs: kpng proxy has nftables only"),
    "iptables": (["--proxy-mode=iptables"], "mode iptables: kpng proxy has nftables only"),
    "no mode": (["--proxy-mode=magic"], "flags: mode: 'magic' is none of iptables, ipvs, nftables"),
    "two faults": (
        ["--cluster-cidr=x", "--oom-score-adj=5000"],
        "clusterCIDR: 'x' is not a CIDR; oomScoreAdj: 5000",
    ),
    "bad name": (["--proxy-mode=nftables", "--hostname-override=a b"], "the name of this Node: 'a b' is not"),
    "blank name": (["--proxy-mode=nftables", "--hostname-override=  "], "the name of this Node: '' is not"),
    "nowhere to write": (["--write-config-to=/nowhere/x"], "--write-config-to /nowhere/x: No such file"),
    "no kubeconfig": (["--kubeconfig=/nowhere/k"], "kubeconfig /nowhere/k: no such file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(name: str, config: Path) -> None:
    words, said = MISTAKES[name]
    config.write_text(HEAD + "a: [\n")
    done = proxy("--oom-score-adj=0", *(word.format(config=config) for word in words))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
