"""The answers of a whole bucket of services: what most nodes of a zone share, and what one has for itself."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from kpng.model import ServiceChange, ServiceKey
from kpng.store import Bucket, ServiceRecord

from .answers import Answers, answers_of

ServiceBucket = Bucket[ServiceKey, ServiceRecord]

_DERIVED = "bucket answers"


class BucketAnswers(Struct, frozen=True, eq=False):
    """What a bucket's services say about nodes. Lives as long as the bucket."""

    answers: dict[ServiceKey, Answers]
    nodes: frozenset[str]
    """Those that may have answers of their own."""
    zones: frozenset[str]
    """Those that make a difference."""

    def own(self, node: str, zone: str) -> Iterator[tuple[ServiceKey, ServiceChange]]:
        """How one node's answers differ from those that its zone shares."""
        if node not in self.nodes:
            return
        for key, answers in self.answers.items():
            if node in answers.nodes:
                change = ServiceChange(answers.shared(zone), answers.for_node(node, zone))
                if change.differs:
                    yield key, change


def bucket_answers(bucket: ServiceBucket) -> BucketAnswers:
    """The answers in a bucket, worked out once."""
    made = bucket.derived.get(_DERIVED)
    if not isinstance(made, BucketAnswers):
        found = {key: answers_of(record) for key, record in bucket.entries.items()}
        answers = {key: each for key, each in found.items() if each}
        nodes = frozenset[str]().union(*(each.nodes for each in answers.values()))
        zones = frozenset[str]().union(*(each.zones for each in answers.values()))
        made = bucket.derived[_DERIVED] = BucketAnswers(answers, nodes, zones)
    return made
