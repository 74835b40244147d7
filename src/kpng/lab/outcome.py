"""What a scenario found, and the checks that make a verdict of it. Plain data and functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .probes import Tally

SCENARIO_SECONDS = 20.0
"""A scenario takes about a second; one that is not done by then will never be."""

Check = Callable[[Tally], str]
"""Looks at a tally; returns "" if it is as it should be, else what is wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the report. ``problems`` is empty if everything was as it should be."""

    title: str
    origin: str
    target: str
    tally: Tally
    note: str = ""
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.problems


def overdue() -> str:
    """The problem of a scenario that took longer than `SCENARIO_SECONDS`."""
    return f"not done within {SCENARIO_SECONDS:g} s"


def judge(tally: Tally, checks: tuple[Check, ...]) -> tuple[str, ...]:
    """Everything that is wrong with a tally."""
    return tuple(problem for check in checks if (problem := check(tally)))


def all_answered(tally: Tally) -> str:
    if tally.sent and tally.answered == tally.sent:
        return ""
    return f"{tally.sent - tally.answered} of {tally.sent} requests failed ({describe_errors(tally)})"


def all_end_as(word: str) -> Check:
    """Every request must fail, and in this way (`probes.REFUSED`, `probes.TIMEOUT`)."""

    def check(tally: Tally) -> str:
        if tally.sent and tally.errors[word] == tally.sent:
            return ""
        return f"expected every request to end as {word!r}; got {tally.answered} answers, {describe_errors(tally)}"

    return check


def hits_exactly(*pods: str) -> Check:
    """Each of these pods must have answered, and no other."""

    def check(tally: Tally) -> str:
        missing = sorted(set(pods) - set(tally.endpoints))
        extra = sorted(set(tally.endpoints) - set(pods))
        return "; ".join(
            ([f"never answered: {', '.join(missing)}"] if missing else [])
            + ([f"must not have answered: {', '.join(extra)}"] if extra else [])
        )

    return check


def hits_one(tally: Tally) -> str:
    return "" if len(tally.endpoints) == 1 else f"expected one endpoint, got {sorted(tally.endpoints)}"


def hits_several(tally: Tally) -> str:
    return "" if len(tally.endpoints) > 1 else f"expected several endpoints, got {sorted(tally.endpoints)}"


def saw_clients(*addresses: str) -> Check:
    """The pods must have seen these client addresses, and no other."""

    def check(tally: Tally) -> str:
        if tally.clients == set(addresses):
            return ""
        return f"pods saw the client address {sorted(tally.clients)}, expected {sorted(addresses)}"

    return check


def never_saw_itself(pod: str, address: str) -> Check:
    """The pod must not have seen its own address as its client: its answer would never pass the node again."""

    def check(tally: Tally) -> str:
        seen = any(reply.pod == pod and reply.client == address for reply in tally.replies)
        return f"{pod} saw its own address {address} as the client" if seen else ""

    return check


def same_each_round(clients: int) -> Check:
    """Requests come from so many clients in turn; each client must get the endpoint of its first request."""

    def check(tally: Tally) -> str:
        pods = [reply.pod for reply in tally.replies]
        moved = sum(pod != pods[index % clients] for index, pod in enumerate(pods))
        return f"{moved} requests went to another endpoint than their client's first" if moved else ""

    return check


def faster_than(milliseconds: float) -> Check:
    """Half of the requests must end within that time."""

    def check(tally: Tally) -> str:
        median = tally.milliseconds(0.5)
        if median is not None and median < milliseconds:
            return ""
        return f"took {median or 0:.0f} ms, expected less than {milliseconds:g} ms"

    return check


def describe_errors(tally: Tally) -> str:
    """For example ``3 refused, 1 timeout``; "no errors" if there were none."""
    return ", ".join(f"{count} {word}" for word, count in tally.errors.most_common()) or "no errors"
