"""Read a YAML file, put overrides on top, and check the result against the type of the job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from numbers import Integral, Real
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lakescore.config.problems import first_problem
from lakescore.config.tables import Table, table_keys
from lakescore.encoding import Spelt
from lakescore.errors import ConfigError
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LARGEST_FILE = 1_000_000
_EMPTY = ("", "~", "null")
_FLOW = ("[", "{")
"""The first characters of YAML's lists and mappings; any other override is a plain text."""
_OTHER_ADDRESS = {"path": "table", "table": "path"}
_KEY = r"\w+(?:\.\w+)*"

J = TypeVar("J", bound=BaseModel)


def kind_of(path: Path, overrides: Sequence[str] = ()) -> Literal["score", "compare", "monitor"]:
    """Return the kind of job of a file, by the key that only this kind has.

    Raises:
        ConfigError: the file does not exist, or does not contain keys and values.
    """
    values = read(path)
    for override in overrides:
        _apply_override(values, override)
    if "predictions" in values:
        return "monitor"
    return "compare" if "versions" in values else "score"


def load(
    kind: type[J],
    path: Path,
    overrides: Sequence[str] = (),
    changes: Mapping[str, object] = MappingProxyType({}),
) -> J:
    """Read the job's file at *path*, with *changes* and then *overrides* on top.

    Args:
        kind: the type of the job.
        path: its file.
        overrides: `key=value` or `input.version=3`, as on the command line.
        changes: keys such as `input.version`, and their values.

    Raises:
        ConfigError: one line names the file, the key, the problem and the nearest valid key.
    """
    values = read(path)
    if isinstance(values.get("trust"), str):
        values["trust"] = str(path.parent / values["trust"])
    for key, value in changes.items():
        _set_value(values, key, value)
    for override in overrides:
        _apply_override(values, override)
    return validate(kind, path, values)


def arguments(
    kind: type[J], function: str, values: Mapping[str, object], path: Path | None = None
) -> J:
    """Return the arguments of a *function* in Python as an instance of *kind*.

    Numbers become the texts that a file has, so the same job has the same meaning, and the same
    run id, in a file and in Python. A text that stands for a table is a path if it contains a `/`,
    and otherwise a name in the catalog.

    Args:
        kind: the type that the arguments fill.
        function: the name of the function, for messages.
        values: the arguments by name.
        path: a file whose keys the arguments replace.

    Raises:
        ConfigError: as `load`; or an argument has a type that no file can have.
    """
    tables = _tables(kind)
    changes = {
        name: _address(_spell(function, name, value)) if name in tables else
        _spell(function, name, value)
        for name, value in values.items()
    }  # fmt: skip
    if path is not None:
        return load(kind, path, changes=changes)
    return validate(kind, function, changes)


def _tables(kind: type[BaseModel]) -> set[str]:
    """Return the names of the fields of *kind* that name a table."""
    return {
        name
        for name, field in kind.model_fields.items()
        if any(
            isinstance(part, type) and issubclass(part, Table)
            for part in (field.annotation, *get_args(field.annotation))
        )
    }


def _address(value: Any) -> Any:  # noqa: ANN401 - pydantic checks it
    return table_keys(value) if isinstance(value, str) else value


def _spell(function: str, name: str, value: object) -> Any:  # noqa: ANN401 - as in a file
    """Return an argument as a job's file has it: texts, lists, mappings and None."""
    match value:
        case None | str():
            return value
        case bool() | Integral():
            return str(value).lower()
        case Real():  # with the dot that YAML asks for: 1.0e-07
            return yaml.safe_dump(float(value)).split("\n", 1)[0]
        case date() | PurePath():
            return str(value)
        case Mapping():
            return {str(key): _spell(function, name, item) for key, item in value.items()}
        case list() | tuple():
            return [_spell(function, name, item) for item in value]
    frames = "; lakescore.predict takes a DataFrame" if hasattr(value, "columns") else ""
    raise ConfigError(
        f"{function}: {name} is a {type(value).__name__}, and can be only what a job's file has: "
        f"a text, a number, a list or a mapping{frames}"
    )


def validate(kind: type[J], path: Path | str, values: Mapping[str, object]) -> J:
    """Return the *values* of the file at *path*, or of another source, as an instance of *kind*.

    Raises:
        ConfigError: as `load`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(kind, error)}") from None


def read(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file; its scalars stay texts.

    Raises:
        ConfigError: the file does not exist, or does not contain keys and values.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(f"{path} has more than {_LARGEST_FILE} bytes: not a job's file")
        values = _parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        files = [str(file) for file in sorted(path.parent.glob("*.yaml"))]
        raise ConfigError(
            f"there is no file {path}{nearest(str(path), files)}; there are: {listed(files)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain keys and values, as conf/score.yaml does")
    return values


class _TextLoader(Spelt):
    """Read scalars as texts, exactly as written; the job's type converts them.

    YAML's own guesses would turn a slice 010 into 8 and 12:30 into 750. A key that occurs twice is
    an error; in plain YAML the last one wins.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


_NULL = "tag:yaml.org,2002:null"
_TextLoader.add_implicit_resolver(_NULL, re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_TextLoader.add_constructor(_NULL, lambda _loader, _node: None)


def _parse_yaml(text: str) -> Any:  # noqa: ANN401 - any value of YAML
    try:
        return yaml.load(text, _TextLoader)  # noqa: S506 - creates only texts, lists and mappings
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def is_override(word: str) -> bool:
    """Return whether a *word* of the command line overrides a key."""
    return re.fullmatch(rf"{_KEY}=.*", word, re.DOTALL) is not None


def _apply_override(values: dict[str, Any], override: str) -> None:
    if not is_override(override):
        raise ConfigError(f"{override!r} is not an override; write key=value or input.version=3")
    key, _, text = override.partition("=")
    try:
        value = _parse_yaml(text) if text[:1] in _FLOW or text in _EMPTY else text
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the override {override!r}: {error}") from None
    _set_value(values, key, value)


def _set_value(values: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.get(parent)
        values[parent] = dict(inner) if isinstance(inner, dict) else {}
        values = values[parent]
    if parents and last in _OTHER_ADDRESS:
        values.pop(_OTHER_ADDRESS[last], None)
    values[last] = value
