"""KubeProxyConfiguration v1alpha1, kube-proxy's configuration: read, default, validate, write; and its flags."""

from .answers import ANSWERS, EXTERNAL_IPS_GATE, Answer, answer_table, ignored_fields
from .decode import Reading, read_configuration
from .defaults import apply_defaults
from .duration import Duration
from .encode import configuration_data, write_configuration
from .families import family_warnings
from .flags import FLAGS, Flag, config_from_flags, flag_options, overlay_flags
from .types import KubeProxyConfiguration
from .validate import check, mistakes

__all__ = [
    "ANSWERS",
    "EXTERNAL_IPS_GATE",
    "FLAGS",
    "Answer",
    "Duration",
    "Flag",
    "KubeProxyConfiguration",
    "Reading",
    "answer_table",
    "apply_defaults",
    "check",
    "config_from_flags",
    "configuration_data",
    "family_warnings",
    "flag_options",
    "ignored_fields",
    "mistakes",
    "overlay_flags",
    "read_configuration",
    "write_configuration",
]
