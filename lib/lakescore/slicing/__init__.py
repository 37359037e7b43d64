"""Slices: parts of the input. Each is scored and replaced as a whole."""

from lakescore.slicing.checking import (
    DuplicateKeys,
    KeysInTwoSlices,
    NullsFound,
    check,
    check_across,
    check_nulls,
)
from lakescore.slicing.counting import names, outside, segments, sizes, tally
from lakescore.slicing.expecting import (
    AgeUndefined,
    InputTooOld,
    RowCountUnexpected,
    check_expected,
)
from lakescore.slicing.naming import WHOLE, check_segments
from lakescore.slicing.selecting import RESERVED_PREFIX, SLICE, cut, select

__all__ = [
    "RESERVED_PREFIX",
    "SLICE",
    "WHOLE",
    "AgeUndefined",
    "DuplicateKeys",
    "InputTooOld",
    "KeysInTwoSlices",
    "NullsFound",
    "RowCountUnexpected",
    "check",
    "check_across",
    "check_expected",
    "check_nulls",
    "check_segments",
    "cut",
    "names",
    "outside",
    "segments",
    "select",
    "sizes",
    "tally",
]
