"""Problems in what a server sends, kept in step with the state."""

from __future__ import annotations

from kpng.model import ProblemLog
from kpng.wire.lenient import Faults


class SeenProblems:
    """Reports the faults of objects as they come, and takes them back when the objects are gone."""

    def __init__(self, log: ProblemLog) -> None:
        self._log = log
        self._bad: set[str] = set()
        self._before_reset: set[str] = set()

    @property
    def any(self) -> bool:
        """Whether anything of what has come is bad."""
        return bool(self._bad)

    def good(self, subject: str) -> None:
        """It has no faults (now)."""
        if subject in self._bad:
            self._bad.discard(subject)
            self._log.report(subject, ())

    def gone(self, prefix: str) -> None:
        """Nothing is there any more whose subject begins so."""
        for subject in [subject for subject in self._bad if subject.startswith(prefix)]:
            self.good(subject)

    def note(self, faults: Faults) -> None:
        """These are all faults that the subject has now."""
        subject = faults.subject
        if faults.problems:
            self._bad.add(subject)
            self._log.report(subject, faults.problems)
        else:
            self.good(subject)

    def reset(self) -> None:
        """Everything comes anew."""
        self._before_reset |= self._bad
        self._bad = set()

    def complete(self) -> None:
        """Everything has come: what was bad and was not named again is gone."""
        for subject in self._before_reset - self._bad:
            self._log.report(subject, ())
        self._before_reset = set()
