"""The problems of one source's objects: forgotten with the objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kpng.model import Problem, ProblemLog


class ProblemScope:
    """What one source has reported to the shared `ProblemLog`, so that it can take it back."""

    def __init__(self, problems: ProblemLog) -> None:
        self._problems = problems
        self._subjects: set[str] = set()

    def __bool__(self) -> bool:
        """Whether there is anything to take back."""
        return bool(self._subjects)

    def report(self, subject: str, problems: Sequence[Problem]) -> None:
        """Give all problems that this object has now; none: it is well, or gone."""
        if problems:
            self._problems.report(subject, problems)
            self._subjects.add(subject)
        elif subject in self._subjects:
            self._problems.report(subject, ())
            self._subjects.discard(subject)

    def forget_all_but(self, subjects: Iterable[str]) -> None:
        """Take back what was reported about any other object."""
        for subject in sorted(self._subjects.difference(subjects)):
            self.report(subject, ())

    def report_all(self, problems: Iterable[Problem]) -> None:
        """Give all problems of the whole source; what is not among them is mended."""
        grouped: dict[str, list[Problem]] = {}
        for problem in problems:
            grouped.setdefault(problem.subject, []).append(problem)
        for subject, found in grouped.items():
            self.report(subject, found)
        self.forget_all_but(grouped)
