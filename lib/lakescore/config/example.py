"""Make a commented example of a job's file: every key with its meaning."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import yaml
from pydantic_core import PydanticUndefined, to_jsonable_python

from lakescore import assets

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from lakescore.config.jobs import Job

_WIDTH = 100


def example(kind: type[Job]) -> str:
    """Return a file for a job of *kind* that can be checked as it is.

    The keys that a job needs have the values of a new project. The others are comments with these
    values or their defaults.
    """
    path = assets.templates() / "conf" / f"{kind.job_name}.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    fields: dict[str, FieldInfo] = kind.model_fields
    needed = [name for name, field in fields.items() if field.is_required()]
    rest = [name for name in fields if name not in needed]
    head = f"# A {kind.job_name} job. Remove the # before a key to set it.\n"
    parts = [_part(name, fields[name], json.dumps(values[name])) for name in needed]
    parts += [
        _part(
            name,
            fields[name],
            _plain(values[name]) if name in values else _default(fields[name]),
            "# ",
        )
        for name in rest
    ]
    return "\n".join([head, *parts])


def _part(name: str, field: FieldInfo, value: str, mark: str = "") -> str:
    meaning = textwrap.fill(
        field.description or name, _WIDTH, initial_indent="# ", subsequent_indent="# "
    )
    return f"{meaning}\n{mark}{name}: {value}".rstrip() + "\n"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if value is None or value is PydanticUndefined else _plain(value)


def _plain(value: object) -> str:
    return json.dumps(to_jsonable_python(value, exclude_none=True))
