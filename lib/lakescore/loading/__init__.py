"""Loading: the options with which every engine loads and calls a pinned version."""

from lakescore.loading.loadable import Loadable
from lakescore.loading.options import OptionUnknown, OptionUnreadable
from lakescore.loading.preparing import FlavorMissing, UnsupportedSignature, prepare

__all__ = [
    "FlavorMissing",
    "Loadable",
    "OptionUnknown",
    "OptionUnreadable",
    "UnsupportedSignature",
    "prepare",
]
