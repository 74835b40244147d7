"""Problems in what a server sends, kept in step with the state."""

from __future__ import annotations

from collections.abc import Iterable

from kpng.model import Problem, ProblemLog
from kpng.wire.lenient import Faults


class SeenProblems:
    """What is bad in the state that was taken on, in a log."""

    def __init__(self, log: ProblemLog) -> None:
        self._log = log
        self.bad: set[str] = set()
        """The subjects that have faults."""

    def report(self, subject: str, problems: Iterable[Problem]) -> None:
        """These are all that the subject has now."""
        problems = tuple(problems)
        if problems:
            self.bad.add(subject)
        else:
            self.bad.discard(subject)
        self._log.report(subject, problems)


class RoundProblems:
    """What a round says of faults. It counts when the round is taken on, and never if that is dropped: the next one
    may come from another server, or begin where this one began.
    """

    def __init__(self, seen: SeenProblems) -> None:
        self._seen = seen
        self._anew = False
        self._said: dict[str, tuple[Problem, ...]] = {}
        """The faults by subject; none: it is mended."""

    @property
    def any(self) -> bool:
        """Whether anything is bad that this round could mend."""
        return bool(self._said) or (not self._anew and bool(self._seen.bad))

    def good(self, subject: str) -> None:
        """It has no faults (now)."""
        if subject in self._said or subject in self._seen.bad:
            self._said[subject] = ()

    def gone(self, prefix: str) -> None:
        """Nothing is there any more whose subject begins so."""
        for subject in self._said.keys() | self._seen.bad:
            if subject.startswith(prefix):
                self._said[subject] = ()

    def note(self, faults: Faults) -> None:
        """These are all faults that the subject has now."""
        if faults.problems:
            self._said[faults.subject] = tuple(faults.problems)
        else:
            self.good(faults.subject)

    def reset(self) -> None:
        """Everything comes anew: what was bad and is not named again is gone."""
        self._anew = True
        self._said.clear()

    def take_on(self) -> None:
        """The round is complete, and is the state now."""
        if self._anew:
            for subject in self._seen.bad - self._said.keys():
                self._seen.report(subject, ())
        for subject, problems in self._said.items():
            self._seen.report(subject, problems)
