"""Describe in one line the most useful problem that pydantic found in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from lakescore.config.models import Otherwise, Segments, VersionQuery
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.config.strict import Strict

_UNION_KEYS = ("missing", "model", "versions")
"""The keys after which an error of pydantic names the case of a union, which no file has."""

_UNION_CASES: dict[str, type[Strict] | None] = {
    "list": None,
    "otherwise": Otherwise,
    "query": VersionQuery,
    "reference": None,
    "rule": None,
    "segments": Segments,
}
"""The cases of unions by their tags; each with the type that defines its keys, if it has keys."""


def first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    """Return the line for an *error* of pydantic in the values of a file."""
    # A mistyped key is also a missing key. The mistyped key says more, so it comes first.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    parts = [str(part) for part in problem["loc"]]
    path = [part for n, part in enumerate(parts) if n == 0 or not _is_case(parts[:n], kind, part)]
    *parents, last = path or [""]
    more = f" (and {error.error_count() - 1} more problems)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        valid = _valid_keys(kind, parts[:-1])
        within = f" in {'.'.join(parents)}" if parents else ""
        known = f"{nearest(last, valid)}; valid keys: {listed(valid, most=20)}"
        return f"unknown key {last!r}{within}{known}{more}"
    where = ".".join(path)
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where + ': ' if where else ''}{message}{more}"


def _is_case(parents: Sequence[str], kind: type[BaseModel], part: str) -> bool:
    """Return whether a *part* of an error's path is the case of a union, not a key of the file."""
    in_list = parents[0] == "versions" and parents[-1].isdigit()
    in_union = parents[-1] in _UNION_KEYS and (
        len(parents) == 1 or parents[0] in {"model", "versions"}
    )
    return (in_union or in_list) and parents[0] in kind.model_fields and part in _UNION_CASES


def _valid_keys(kind: type[BaseModel], parents: Sequence[str]) -> list[str]:
    job = kind
    for n, parent in enumerate(parents):
        if n and _is_case(parents[:n], job, parent):
            kind = _UNION_CASES[parent] or kind
        elif parent in kind.model_fields:  # otherwise a mapping's key, or a list's index
            kind = _nested_model(kind.model_fields[parent].annotation) or kind
    return [field.alias or name for name, field in kind.model_fields.items()]


def _nested_model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any type
    """Return the model in an annotation: the annotation itself, or the last of its parts."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [_nested_model(part) for part in get_args(annotation)]
    return next((model for model in reversed(models) if model), None)
