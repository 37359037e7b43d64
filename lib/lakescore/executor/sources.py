"""Sources: the code of this package as text, for processes that cannot import it.

A version's own process can run in another version of Python, which reads source code but neither
pickled nor compiled code.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

PACKAGE = "lakescore_executor"
"""The name of this package in such a process."""

_PROGRAM = """
import importlib.abc, importlib.util, sys

SOURCES = {sources!r}

class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def find_spec(self, name, path=None, target=None):
        if name in SOURCES:
            return importlib.util.spec_from_loader(name, self)

    def get_source(self, name):
        return SOURCES[name]

    def is_package(self, name):
        return name == {package!r}

sys.meta_path.insert(0, Sources())
from {package}.delegating import {begin}
{begin}(connection)
"""


@cache
def read_sources() -> dict[str, str]:
    """Return the source code of this package's modules, by their file's name."""
    files = resources.files(__package__).iterdir()  # perhaps in a zip
    return {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted(files, key=lambda file: file.name)
        if file.name.endswith(".py")
    }


@cache
def program(begin: str) -> bytes:
    """Return the program of a process that calls the function *begin* of `delegating`.

    It does not import what only workers need: the package itself is empty there.
    """
    sources = {
        f"{PACKAGE}.{name.removesuffix('.py')}": text for name, text in read_sources().items()
    }
    sources = {**sources, PACKAGE: ""}
    return _PROGRAM.format(sources=sources, package=PACKAGE, begin=begin).encode()
