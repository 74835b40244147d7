"""Running as a well-behaved process: logging, signals."""

from .logging import FORMATS, LEVELS, configure_logging
from .signals import run_until_signal

__all__ = ["FORMATS", "LEVELS", "configure_logging", "run_until_signal"]
