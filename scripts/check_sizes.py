"""House rules that no linter knows: files stay small, tests outweigh sources.

Fails if a file passes 500 lines without saying why in its docstring ("long because"), or if there are
fewer than 1.3 test lines for each source line.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MAX_LINES = 500
MIN_TEST_RATIO = 1.3


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in listed.stdout.splitlines() if Path(line).exists()]


def main() -> int:
    sources = [path for path in tracked("src/*.py") if not path.stem.endswith("_pb2")]
    tests = tracked("tests/*.py")
    lines = {path: len(path.read_text().splitlines()) for path in sources + tests}
    faults = [
        f"{path}: {lines[path]} lines, more than {MAX_LINES}, and no 'long because' in its docstring"
        for path in sources
        if lines[path] > MAX_LINES and "long because" not in path.read_text()[:2000]
    ]
    source_lines, test_lines = sum(map(lines.__getitem__, sources)), sum(map(lines.__getitem__, tests))
    ratio = test_lines / source_lines
    print(f"sizes: {source_lines} source lines, {test_lines} test lines, ratio {ratio:.2f}")
    if ratio < MIN_TEST_RATIO:
        faults.append(f"test lines / source lines is {ratio:.2f}, less than {MIN_TEST_RATIO}")
    print(*faults, sep="\n", file=sys.stderr, end="\n" if faults else "")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
