"""Environments: the packages that a version needs, beside those of this machine.

`find_differences` says what differs from this machine, and `own_environment` makes what the version
asks for: it locks the packages with their digests, installs them once a machine, and keeps them.
"""

from lakescore.environments.differing import (
    Difference,
    choose,
    differences,
    find_differences,
    find_libraries,
    missing,
)
from lakescore.environments.errors import ModuleMissing, ModuleNotAsked
from lakescore.environments.making import Environment, kept_environment, own_environment
from lakescore.environments.needs import Needs, read_asked, read_needs, wheels
from lakescore.environments.packing import pack, packed

__all__ = [
    "Difference",
    "Environment",
    "ModuleMissing",
    "ModuleNotAsked",
    "Needs",
    "choose",
    "differences",
    "find_differences",
    "find_libraries",
    "kept_environment",
    "missing",
    "own_environment",
    "pack",
    "packed",
    "read_asked",
    "read_needs",
    "wheels",
]
