"""Draws docs/images/*.svg from what the benchmarks' sweeps have written.

python -m benchmarks.agent --sweep 1000,5000,10000,20000,44000 --json agent.json
python -m benchmarks.fanout --sweep 1,10,100,1000,5000 --json fanout.json
python -m benchmarks.plots agent.json fanout.json
"""

from __future__ import annotations

import argparse
import json
import re
from math import ceil, floor, log10
from pathlib import Path

import pygal
from pygal.style import CleanStyle

from benchmarks.harness import Figures

_STYLE = pygal.Config(
    style=CleanStyle,
    logarithmic=True,
    width=720,
    height=400,
    legend_at_bottom=True,
    legend_at_bottom_columns=1,
    truncate_legend=-1,
)
_IMAGES = Path(__file__).parents[1] / "docs" / "images"

_PLOTS = {
    "agent": (
        "services.svg",
        "A node agent: services (10 endpoints each)",
        {"cold_start_s": "cold start, s", "change_p50_ms": "one endpoint changed, p50, ms"},
    ),
    "fanout": (
        "watchers.svg",
        "A brain: watchers of 10,000 services",
        {
            "last_p50_ms": "until the last one knows of a change, p50, ms",
            "change_cpu_ms": "the brain's CPU, ms",
        },
    ),
}


def swept(figures: Figures, name: str) -> dict[int, float]:
    """What was found for ``name``, by the number that was swept over."""
    found = (re.fullmatch(rf"{name}_(\d+)", key) for key in figures)
    return {int(match[1]): figures[match[0]] for match in found if match}


def draw(path: Path, images: Path) -> Path:
    document = json.loads(path.read_text())
    file, title, lines = _PLOTS[document["name"].removesuffix("-sweep")]
    found = {label: swept(document["figures"], name) for name, label in lines.items()}
    numbers = sorted(next(iter(found.values())))
    values = [value for each in found.values() for value in each.values()]
    chart = pygal.Line(_STYLE, title=title, js=[])
    chart.x_labels = [f"{number:,}" for number in numbers]
    chart.y_labels = [10.0**power for power in range(floor(log10(min(values))), ceil(log10(max(values))) + 1)]
    for label, each in found.items():
        chart.add(label, [round(each[number], 3) for number in numbers])
    images.mkdir(exist_ok=True)
    chart.render_to_file(str(images / file))
    return images / file


def main() -> None:
    flags = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    flags.add_argument("figures", nargs="+", type=Path, help="JSON files of sweeps")
    flags.add_argument("--images", type=Path, default=_IMAGES, help="the folder to write to")
    given = flags.parse_args()
    for path in given.figures:
        print(draw(path, given.images))


if __name__ == "__main__":
    main()
