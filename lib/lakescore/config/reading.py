"""Read a YAML file, put overrides on top, and check the result against the type of the job."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from lakescore.config.problems import first_problem
from lakescore.encoding import Spelt
from lakescore.errors import ConfigError
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LARGEST_FILE = 1_000_000
_EMPTY = ("", "~", "null")
_FLOW = ("[", "{")
"""The first characters of YAML's lists and mappings; any other override is a plain text."""
_OTHER_ADDRESS = {"path": "table", "table": "path"}
_KEY = r"\w+(?:\.\w+)*"

J = TypeVar("J", bound=BaseModel)


def kind_of(path: Path, overrides: Sequence[str] = ()) -> Literal["score", "compare"]:
    """Return the kind of job of a file: only the file of a compare job has `versions`.

    Raises:
        ConfigError: the file does not exist, or does not contain keys and values.
    """
    values = read(path)
    for override in overrides:
        _apply_override(values, override)
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


def validate(kind: type[J], path: Path, values: Mapping[str, object]) -> J:
    """Return the *values* of the file at *path* as an instance of *kind*.

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
