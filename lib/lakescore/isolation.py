"""Isolation: whether a version runs code that other versions in its process could meet.

A version that ships modules, or whose pickle holds functions and classes of its own, can change
what belongs to the process: modules, `sys.path`, the environment, random state. Known libraries do
not, so models that are made of these alone may share a process.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LIBRARIES = frozenset(
    {
        "catboost", "collections", "copyreg", "joblib", "lightgbm", "numpy", "pandas", "scipy",
        "sklearn", "statsmodels", "xgboost",
    }
)  # fmt: skip
_BUILTINS = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int",
     "list", "object", "range", "set", "slice", "str", "tuple", "type"}
)  # fmt: skip
_OTHERS = frozenset({("_codecs", "encode"), ("functools", "partial")})
_LOADERS = frozenset(
    f"mlflow.{name}"
    for name in ("catboost", "lightgbm", "onnx", "sklearn", "spark", "statsmodels", "xgboost")
)
"""The modules of MLflow that load a model, and run nothing that is not in its files."""
_PICKLES = (".pkl", ".pickle", ".joblib")
_FIRST_OF_A_PICKLE = b"\x80"
_LARGEST_READ = 2 * 2**30
_MOST_OPERATIONS = 5_000_000
"""Bytes and operations of a pickle beyond which looking costs more than a process of its own."""
_UNTOLD = frozenset({"BINPERSID", "EXT1", "EXT2", "EXT4", "PERSID"})
"""Operations whose meaning is not in the file."""
_REMEMBERED = 8
"""So many of the last values of a pickle are known; a name takes two."""


def own_code(flavors: Mapping[str, Any], folder: Path) -> str | None:
    """Return what a version runs of its own, such as `code`, or nothing where it runs libraries.

    Nothing is loaded: pickles are read operation by operation, and what cannot be told of one
    counts as code.

    Args:
        flavors: of its MLmodel file.
        folder: its files.
    """
    for settings in flavors.values():
        for key in ("code", "model_code_path"):
            if settings.get(key):
                return f"{key}: {settings[key]}"
    loader = flavors.get("python_function", {}).get("loader_module")
    if loader not in _LOADERS:
        return f"loader {loader}"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (name := _foreign(path)) is not None:
            return f"{name} in {path.relative_to(folder).as_posix()}"
    return None


def _foreign(path: Path) -> str | None:
    """Return what the pickle at *path* names that is of no known library; nothing of others."""
    with path.open("rb") as file:
        is_pickle = file.read(1) == _FIRST_OF_A_PICKLE
    if not is_pickle and path.suffix not in _PICKLES:
        return None
    if path.stat().st_size > _LARGEST_READ:
        return "a large pickle"
    try:
        for module, name in _named(path):
            root = module.partition(".")[0]
            known = root in _LIBRARIES or (module, name) in _OTHERS
            if not known and not (module == "builtins" and name in _BUILTINS):
                return f"{module}.{name}"
    except ValueError as error:
        return f"a pickle that cannot be read ({error})"
    return None


def _named(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the module and name of all that the pickle at *path* imports.

    Raises:
        ValueError: it is none, or it makes a name of something that is no text in it.
    """
    values: list[str | None] = []  # what the pickle made last: texts, and None for all else
    memo: dict[int, str | None] = {}
    with path.open("rb") as file:
        for n, (operation, argument, _) in enumerate(pickletools.genops(file)):
            name = operation.name
            if n > _MOST_OPERATIONS or name in _UNTOLD:
                raise ValueError(f"it holds {name}" if name in _UNTOLD else "it is too long")
            if name in {"GLOBAL", "INST"}:
                module, _, own = str(argument).partition(" ")
                yield module, own
            elif name == "STACK_GLOBAL":
                module_text, own_text = [None, None, *values][-2:]
                if module_text is None or own_text is None:
                    raise ValueError("it makes a name of what is no text")
                yield module_text, own_text
            if name == "MEMOIZE" or name.endswith("PUT"):
                place = len(memo) if argument is None else int(argument)
                memo[place] = values[-1] if values else None
            elif name not in {"FRAME", "PROTO"}:
                is_text = name.endswith("UNICODE") or name == "BINUNICODE8"
                got = memo.get(int(argument or 0)) if name.endswith("GET") else None
                values = [*values[1 - _REMEMBERED :], str(argument) if is_text else got]
