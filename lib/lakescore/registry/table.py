"""Show records as tables: one form for the terminal, for notebooks and for pandas."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from lakescore.notation import number, time
from lakescore.registry.errors import BadColumn
from lakescore.wording import html_table, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d\S*")
_BOUND = re.compile(r"\.(low|high)$")
"""The suffixes of the bounds of a metric's interval, which `compare` logs beside the metric."""
_GROUPS = ("metrics", "params", "tags")


class Shown(ABC):
    """A record that a notebook shows as a table."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""

    def to_pandas(self) -> pd.DataFrame:
        """Return the record as a frame of one row."""
        return Rows([self]).to_pandas()

    def _repr_html_(self) -> str:
        return html_table(["", ""], [[key, text(value)] for key, value in self.facts().items()])


R = TypeVar("R", bound=Shown)


class Rows(list[R]):
    """A list of records that a notebook shows as a table.

    Args:
        records: the records.
        columns: the columns for people; see `grid`.
    """

    def __init__(self, records: Iterable[R], columns: Sequence[str] = ()) -> None:
        super().__init__(records)
        self.columns = columns

    def to_pandas(self) -> pd.DataFrame:
        """Return a frame with one row per record, and one column per metric, param and tag."""
        import pandas as pd  # noqa: PLC0415 - --help does not need it

        return pd.DataFrame([_flatten(record.facts()) for record in self])

    def selected(self, columns: Sequence[str] = ()) -> tuple[list[str], list[list[Any]]]:
        """Return the headings, and the plain JSON values of each row.

        Args:
            columns: keys of the records' facts; empty for the columns of the list. `metrics` is one
                value, `metrics.rmse` the value of one metric, `metrics.*` a column per matching
                metric. The bounds `rmse.low` and `rmse.high` are left out if `rmse` matches.

        Raises:
            BadColumn: no record can have such a column.
        """
        facts = [record.facts() for record in self]
        paths = [path for column in columns or self.columns for path in _expand(column, facts)]
        return [".".join(path) for path in paths], [
            [_value(record, path) for path in paths] for record in facts
        ]

    def grid(self, columns: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
        """Return the result of `selected` as texts for people."""
        heads, lines = self.selected(columns)
        return heads, [[text(value) for value in line] for line in lines]

    def _repr_html_(self) -> str:
        return html_table(*self.grid(self.columns or list(self[0].facts()) if self else []))


def text(value: object) -> str:
    """Return one value as text for people: times and numbers as `notation` writes them."""
    match value:
        case None:
            return ""
        case float():
            return "NaN" if math.isnan(value) else number(value)
        case dict() if "type" in value:  # a column of a signature
            return f"{value.get('name') or '-'}: {column_type(value)}"
        case dict():
            return ", ".join(f"{key}={text(inner)}" for key, inner in value.items())
        case list():
            return ", ".join(text(item) for item in value)
    return visible(_TIME.sub(lambda found: time(found[0]), str(value)))


def column_type(column: Mapping[str, Any]) -> str:
    """Return the type of a signature's column: `double`, `tensor(float64, [-1])`, ..."""
    if tensor := column.get("tensor-spec"):
        return f"tensor({tensor['dtype']}, {tensor['shape']})"
    inner = {key: column[key] for key in ("items", "properties", "shape") if column.get(key)}
    return f"{column['type']}{inner or ''}"


def _expand(column: str, facts: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    group, dot, pattern = column.partition(".")
    known = list(facts[0]) if facts else [group]
    if group not in known or (dot and group not in _GROUPS):
        raise BadColumn(column, [*known, *(f"{name}.<key>" for name in _GROUPS)])
    if "*" not in pattern:
        return [(group, pattern.strip("`")) if dot else (group,)]
    keys = dict.fromkeys(key for record in facts for key in record[group])
    matching = dict.fromkeys(key for key in keys if fnmatchcase(key, pattern))
    metric_of = {key: _BOUND.sub("", key) if group == "metrics" else key for key in matching}
    return [
        (group, key) for key in matching if metric_of[key] == key or metric_of[key] not in matching
    ]


def _value(facts: dict[str, Any], path: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON value
    value = facts[path[0]]
    return value.get(path[1]) if len(path) > 1 else value


def _flatten(facts: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if key in _GROUPS:
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat
