"""Loading: the options with which every engine loads and calls a pinned version."""

from lakescore.loading.errors import FlavorMissing, UnsupportedSignature
from lakescore.loading.loadable import VECTOR, Loadable
from lakescore.loading.options import OptionUnknown, OptionUnreadable
from lakescore.loading.pipelines import PipelineNotShared
from lakescore.loading.preparing import outline, prepare

__all__ = [
    "VECTOR",
    "FlavorMissing",
    "Loadable",
    "OptionUnknown",
    "OptionUnreadable",
    "PipelineNotShared",
    "UnsupportedSignature",
    "outline",
    "prepare",
]
