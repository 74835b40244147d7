"""Where problems go: named once in the log, counted, and forgotten when mended."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from .errors import Problem

log = logging.getLogger("kpng.problems")


class ProblemLog:
    """The problems there are now, by the object they are in.

    ``report`` gives all problems of one object as of now (none: it is mended). A problem is logged when it
    appears, once, and again when it is no longer there. ``total`` counts all that ever appeared.
    """

    def __init__(self) -> None:
        self._current: dict[str, frozenset[Problem]] = {}
        self.total = 0

    def report(self, subject: str, problems: Iterable[Problem]) -> None:
        now = frozenset(problems)
        before = self._current.get(subject, frozenset())
        for problem in sorted(now - before):
            self.total += 1
            log.warning("%s", problem, extra={"event": "problem"})
        for problem in sorted(before - now):
            log.info("mended or gone: %s", problem, extra={"event": "problem-mended"})
        if now:
            self._current[subject] = now
        else:
            self._current.pop(subject, None)

    def __len__(self) -> int:
        """How many problems there are now."""
        return sum(map(len, self._current.values()))

    @property
    def current(self) -> list[Problem]:
        return sorted(problem for problems in self._current.values() for problem in problems)
