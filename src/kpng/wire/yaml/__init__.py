"""YAML, read with suspicion and written fast."""

from .read import Data, YAMLSyntaxError, load_documents
from .write import write_yaml

__all__ = ["Data", "YAMLSyntaxError", "load_documents", "write_yaml"]
