"""Isolation: whether a version runs code that could disturb other versions in its process.

A version that ships modules, or whose pickle holds its own functions and classes, can change the
state of the process: modules, `sys.path`, the environment, random state. Known libraries do not, so
models that use only known libraries can share a process.
"""

from __future__ import annotations

import json
import pickletools
from dataclasses import dataclass
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
"""The modules of MLflow that load a model and run no code from outside its files."""
_STAGES = ("org.apache.spark.ml.", "pyspark.ml.")
"""The packages of the classes that a pipeline of Spark ML consists of, in Java and in Python."""
_PICKLES = (".pkl", ".pickle", ".joblib")
_FIRST_OF_A_PICKLE = b"\x80"
_LARGEST_READ = 16 * 2**30
_MOST_OPERATIONS = 5_000_000
"""Bytes and operations of a pickle above which reading it costs more than a process of its own:
reading takes about a second for 2 GB or for a million operations."""
_UNTOLD = frozenset({"BINPERSID", "EXT1", "EXT2", "EXT4", "PERSID"})
"""Operations whose meaning is not in the file."""
_REMEMBERED = 8
"""The number of last values of a pickle that are remembered; a name takes two."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code that runs when a version is loaded."""

    own: str | None = None
    """The code that the version brings, such as `code: code`; None if it runs only libraries."""
    libraries: frozenset[str] = frozenset()
    """The libraries that its pickles import, if `own` is None."""


def find_code(flavors: Mapping[str, Any], folder: Path) -> Code:
    """Return the code that runs when a version is loaded.

    Nothing is loaded: pickles are read operation by operation. An operation that cannot be
    understood counts as code of the version.

    Args:
        flavors: the flavors of the version's MLmodel file.
        folder: the folder of its files.
    """
    for settings in flavors.values():
        for key in ("code", "model_code_path"):
            if settings.get(key):
                return Code(own=f"{key}: {settings[key]}")
    loader = flavors.get("python_function", {}).get("loader_module")
    if loader not in _LOADERS:
        return Code(own=f"loader {loader}")
    if loader == "mlflow.spark" and (stage := _foreign_stage(folder)) is not None:
        return Code(own=stage)
    libraries: set[str] = set()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (name := _foreign_name(path, libraries)) is not None:
            return Code(own=f"{name} in {path.relative_to(folder).as_posix()}")
    return Code(libraries=frozenset(libraries))


def is_pipeline(flavors: Mapping[str, Any]) -> bool:
    """Return whether a version with these *flavors* is a pipeline of Spark ML.

    The models of `pyspark.ml.connect` are none: they are models of PyTorch in Python.
    """
    loader = flavors.get("python_function", {}).get("loader_module")
    model_class = str(flavors.get("spark", {}).get("model_class"))
    return loader == "mlflow.spark" and not model_class.startswith("pyspark.ml.connect.")


def _foreign_stage(folder: Path) -> str | None:
    """Return the first class that is not Spark's in a pipeline of Spark ML, or None."""
    for path in sorted(folder.rglob("metadata/*")):
        if path.name.startswith(("_", ".")) or not path.is_file():
            continue  # as Spark does
        where = path.relative_to(folder).as_posix()
        try:
            stages = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
            codes = [_foreign_code(stage) for stage in stages]
        except (LookupError, TypeError, ValueError):
            return f"an unreadable stage in {where}"
        if code := next(filter(None, codes), None):
            return f"{code} in {where}"
    return None


def _foreign_code(stage: Mapping[str, Any]) -> str | None:
    """Return the class of a *stage* that is not Spark's, or its SQL that is not a SELECT."""
    name, statement = str(stage["class"]), stage.get("paramMap", {}).get("statement")
    if not name.startswith(_STAGES):
        return f"class {name}"
    is_select = statement is None or str(statement).lstrip().lower().startswith("select")
    return None if is_select else "a statement that is not a SELECT"


def _foreign_name(path: Path, libraries: set[str]) -> str | None:
    """Return the first name from no known library in the pickle at *path*, or None.

    The libraries that the pickle imports are added to *libraries*.
    """
    with path.open("rb") as file:
        is_pickle = file.read(1) == _FIRST_OF_A_PICKLE
    if not is_pickle and path.suffix not in _PICKLES:
        return None
    if path.stat().st_size > _LARGEST_READ:
        return "a large pickle"
    try:
        for module, name in _imported_names(path):
            root = module.partition(".")[0]
            libraries.add(root)
            known = root in _LIBRARIES or (module, name) in _OTHERS
            if not known and not (module == "builtins" and name in _BUILTINS):
                return f"{module}.{name}"
    except ValueError as error:
        return f"a pickle that cannot be read ({error})"
    return None


def _imported_names(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the module and name of each object that the pickle at *path* imports.

    Raises:
        ValueError: the file is not a pickle, or it makes a name of a value that is not a text.
    """
    values: list[str | None] = []  # the last values of the pickle: texts, and None for others
    memo: dict[int, str | None] = {}
    with path.open("rb") as file:
        for n, (operation, argument, _) in enumerate(pickletools.genops(file)):
            name = operation.name
            if n > _MOST_OPERATIONS or name in _UNTOLD:
                raise ValueError(f"it holds {name}" if name in _UNTOLD else "it is too long")
            if name in {"GLOBAL", "INST"}:
                module, _, attribute = str(argument).partition(" ")
                yield module, attribute
            elif name == "STACK_GLOBAL":
                module_text, name_text = [None, None, *values][-2:]
                if module_text is None or name_text is None:
                    raise ValueError("it makes a name of a value that is not a text")
                yield module_text, name_text
            if name == "MEMOIZE" or name.endswith("PUT"):
                place = len(memo) if argument is None else int(argument)
                memo[place] = values[-1] if values else None
            elif name not in {"FRAME", "PROTO"}:
                is_text = name.endswith("UNICODE") or name == "BINUNICODE8"
                got = memo.get(int(argument or 0)) if name.endswith("GET") else None
                values = [*values[1 - _REMEMBERED :], str(argument) if is_text else got]
