"""``python -m kpng``."""

from kpng.cli import main

main()
