"""What kube-proxy's iptables mode leaves behind (semantics R3), and how to take it away.

Left alone, it would go on sending connections to endpoints of the day it stopped.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise

log = logging.getLogger(__name__)

COMMANDS = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
"""A machine may have rules of both kinds."""
_PLAIN = ("iptables", "ip6tables")
_SECONDS = 60.0

_OURS_TO_REMOVE = re.compile(
    r"KUBE-(?:SERVICES|EXTERNAL-SERVICES|NODEPORTS|POSTROUTING|MARK-MASQ|FORWARD|PROXY-FIREWALL|PROXY-CANARY"
    r"|(?:SVC|SVL|EXT|FW|SEP)-[A-Z0-9]+)"
)
"""kubelet's KUBE-FIREWALL and KUBE-KUBELET-CANARY, and whatever else, stay."""


def removal(saved: str) -> str:
    """What ``iptables-restore --noflush`` must be given, after ``iptables-save`` said this; "" if nothing is left.

    First the jumps into kube-proxy's chains go, so that no packet finds them half-way; all in one commit.
    """
    return "".join(_table_removal(table, lines) for table, lines in _tables(saved))


def _tables(saved: str) -> Iterator[tuple[str, list[str]]]:
    name, lines = "", list[str]()
    for line in saved.splitlines():
        if line.startswith("*"):
            name, lines = line[1:].strip(), []
        elif line == "COMMIT":
            yield name, lines
        else:
            lines.append(line)


def _table_removal(table: str, lines: list[str]) -> str:
    chains = [line[1:].split()[0] for line in lines if line.startswith(":")]
    doomed = [chain for chain in chains if _OURS_TO_REMOVE.fullmatch(chain)]
    if not doomed:
        return ""
    goes = set(doomed)
    jumps = [f"-D{line[2:]}" for line in lines if line.startswith("-A ") and _leads_there(line, goes)]
    steps = [
        f"*{table}",
        *jumps,
        *(f"-F {chain}" for chain in doomed),
        *(f"-X {chain}" for chain in doomed),
        "COMMIT",
    ]
    return "".join(f"{step}\n" for step in steps)


def _leads_there(rule: str, doomed: set[str]) -> bool:
    """Whether a rule of somebody else's chain leads into one of these. Most rules are in these themselves, and
    reading a rule word by word is slow."""
    if rule.removeprefix("-A ").partition(" ")[0] in doomed:
        return False
    try:
        words = shlex.split(rule)
    except ValueError:  # the first line of a comment that has several; kube-proxy makes none
        return False
    return any(target in doomed for word, target in pairwise(words) if word in ("-j", "-g"))


def remove_iptables_rules() -> list[str]:
    """Remove them with each iptables there is; return the commands that found some. Without root, or without
    iptables, there are none to be found. Failures are logged."""
    installed = [command for command in COMMANDS if shutil.which(f"{command}-save")]
    commands = installed or [command for command in _PLAIN if shutil.which(f"{command}-save")]
    return [command for command in commands if _remove_with(command)]


def _remove_with(command: str) -> bool:
    try:
        todo = removal(_run(f"{command}-save"))  # all tables there are; naming one would load its module
        if todo:
            _run(f"{command}-restore", "--noflush", stdin=todo)
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        log.warning("cannot remove kube-proxy's rules with %s: %s", command, said)
        return False
    return bool(todo)


def _run(*argv: str, stdin: str = "") -> str:
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout
