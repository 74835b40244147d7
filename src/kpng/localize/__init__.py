"""From global to local: endpoint choice, answers shared between nodes, change sets."""

from .answers import localize
from .audit import Auditor
from .buckets import BucketAnswers, bucket_answers
from .choice import Choice, choose
from .difference import Difference, Place, changes_between
from .view import LocalView, change_sets, node_in, place_of

__all__ = [
    "Auditor",
    "BucketAnswers",
    "Choice",
    "Difference",
    "LocalView",
    "Place",
    "bucket_answers",
    "change_sets",
    "changes_between",
    "choose",
    "localize",
    "node_in",
    "place_of",
]
