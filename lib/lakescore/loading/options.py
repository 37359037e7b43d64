"""Options: parameters and configuration from a job's file, in the types that a model declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import yaml

from lakescore.encoding import parsed, spelt
from lakescore.errors import ConfigError
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.registry import ModelVersion

_Reader = Callable[[Any], Any]
"""Turns a value of the job's file, whose scalars are texts, into the type that a model declares."""


class OptionUnknown(ConfigError):
    """The model does not declare this parameter or this key of its configuration."""

    def __init__(self, what: str, name: str, uri: str, known: Sequence[str]) -> None:
        declared = f"it declares {listed(known)}" if known else "it declares none"
        super().__init__(
            f"pyfunc.{what}: {uri} does not know {name!r}{nearest(name, known)}; {declared} (in "
            "its signature, or in the configuration that it was logged with)"
        )


class OptionUnreadable(ConfigError):
    """A value of a parameter or of the configuration does not have the declared type."""

    def __init__(self, name: str, text: object, uri: str, reason: str) -> None:
        super().__init__(f"pyfunc: {name}={text} does not fit the declaration of {uri}: {reason}")


def parse_config(
    model: ModelVersion, declared: Mapping[str, Any], requested: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the *declared* configuration of *model* with the *requested* values instead.

    Raises:
        OptionUnknown: a name is not declared.
        OptionUnreadable: a value does not have the declared type.
    """
    _check_names("model_config", model, requested, list(declared))
    overrides = {
        name: _parse_option(model, name, value, _reader_like(declared[name]))
        for name, value in requested.items()
    }
    return {**declared, **overrides}


def parse_params(model: ModelVersion, requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the *requested* parameters in the types of the signature of *model*.

    Raises:
        OptionUnknown: the signature has no such parameter.
        OptionUnreadable: a value does not have the declared type.
    """
    specs = {spec.name: spec for spec in (model.signature.params or [])}
    _check_names("params", model, requested, list(specs))
    readers = {}
    for name in requested:
        reader = _reader_of_type(specs[name].to_dict())
        readers[name] = _list_reader(reader) if specs[name].shape is not None else reader
    return {
        name: _parse_option(model, name, value, readers[name]) for name, value in requested.items()
    }


def _check_names(
    option: str, model: ModelVersion, requested: Mapping[str, Any], known: list[str]
) -> None:
    for name in requested:
        if name not in known:
            raise OptionUnknown(option, name, model.uri, known)


def _parse_option(model: ModelVersion, name: str, value: Any, reader: _Reader) -> Any:  # noqa: ANN401 - a value of any type
    try:
        return reader(value)
    except (ValueError, yaml.YAMLError) as error:
        raise OptionUnreadable(name, value, model.uri, str(error).splitlines()[0]) from None


def _reader_like(declared: object) -> _Reader:
    """Return a reader of values that have the type of the value *declared*."""
    if isinstance(declared, list):
        kinds = {type(value) for value in declared}
        return _list_reader(_reader_like(declared[0])) if len(kinds) == 1 else _parse_any
    if isinstance(declared, dict):
        return _mapping_reader(
            {name: _reader_like(value) for name, value in declared.items()}, others=_parse_any
        )
    return _scalar_reader(_READERS[type(declared)]) if type(declared) in _READERS else _parse_any


def _reader_of_type(kind: Mapping[str, Any]) -> _Reader:
    """Return a reader of values of a type in MLflow's signatures."""
    match kind["type"]:
        case "array":
            return _list_reader(_reader_of_type(kind["items"]))
        case "object":
            fields = kind["properties"]
            required = [name for name, field in fields.items() if field.get("required")]
            return _mapping_reader(
                {n: _reader_of_type(field) for n, field in fields.items()}, required=required
            )
        case "map":
            return _mapping_reader({}, others=_reader_of_type(kind["values"]))
        case name:
            return _scalar_reader(_KINDS[name]) if name in _KINDS else _parse_any


def _parse_flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("write true or false")
    return text.lower() == "true"


def _parse_any(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    """Parse texts as YAML, since their type is not declared."""
    if isinstance(value, list):
        return [_parse_any(item) for item in value]
    if isinstance(value, dict):
        return {name: _parse_any(item) for name, item in value.items()}
    return parsed(value) if isinstance(value, str) else value


def _scalar_reader(reader: Callable[[str], Any]) -> _Reader:
    def read(value: Any) -> Any:  # noqa: ANN401 - a value of any type
        if value is None or isinstance(value, (list, dict)):
            raise ValueError("write one value")
        return reader(str(value))

    return read


def _list_reader(reader: _Reader) -> _Reader:
    def read(value: Any) -> list[Any]:  # noqa: ANN401 - a value of any type
        values = _parse_text(value)
        if not isinstance(values, list):
            raise ValueError("write a list")  # noqa: TRY004 - a value in a file
        return [reader(item) for item in values]

    return read


def _mapping_reader(
    readers: Mapping[str, _Reader],
    *,
    others: _Reader | None = None,
    required: Sequence[str] = (),
) -> _Reader:
    def read(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a value of any type
        values = _parse_text(value)
        if not isinstance(values, dict):
            raise ValueError("write a mapping")  # noqa: TRY004 - a value in a file
        for name in values if others is None else ():
            if name not in readers:
                raise ValueError(f"it has no {name!r}{nearest(name, readers)}")
        if lacks := [name for name in required if name not in values]:
            raise ValueError(f"it lacks {listed(lacks)}")
        return {
            name: readers.get(name, others or _parse_any)(item) for name, item in values.items()
        }

    return read


def _parse_text(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    """Return a list or a mapping of texts; *value* can also be YAML in one text."""
    return spelt(value) if isinstance(value, str) else value


_READERS: dict[type, Callable[[str], Any]] = {bool: _parse_flag, int: int, float: float, str: str}
_KINDS: dict[str, Callable[[str], Any]] = {
    "boolean": _parse_flag,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
}
