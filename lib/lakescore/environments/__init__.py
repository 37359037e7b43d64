"""Environments: the packages that a version needs, beside those of this machine."""

from lakescore.environments.differing import (
    Difference,
    choose,
    differences,
    find_differences,
    find_libraries,
    missing,
)
from lakescore.environments.errors import ModuleMissing
from lakescore.environments.needs import Needs, read_needs, wheels

__all__ = [
    "Difference",
    "ModuleMissing",
    "Needs",
    "choose",
    "differences",
    "find_differences",
    "find_libraries",
    "missing",
    "read_needs",
    "wheels",
]
