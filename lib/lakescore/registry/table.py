"""Records as tables: one shape for the terminal, for notebooks and for pandas."""

from __future__ import annotations

import html
import re
from abc import ABC, abstractmethod
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from lakescore.errors import BadColumn, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

_SECONDS = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)\S*")
_BOUND = re.compile(r"\.(low|high)$")
"""How the bounds of a metric's interval end, which `compare` logs beside it."""
_GROUPS = ("metrics", "params", "tags")


class Shown(ABC):
    """A record that shows itself as a table in a notebook."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""

    def to_pandas(self) -> pd.DataFrame:
        """Return the record as a frame of one row."""
        return Rows([self]).to_pandas()

    def _repr_html_(self) -> str:
        return _html(["", ""], [[key, text(value)] for key, value in self.facts().items()])


R = TypeVar("R", bound=Shown)


class Rows(list[R]):
    """A list of records that shows itself as a table.

    Args:
        records: the records.
        columns: those that people see; see `grid`.
    """

    def __init__(self, records: Iterable[R], columns: Sequence[str] = ()) -> None:
        super().__init__(records)
        self.columns = columns

    def to_pandas(self) -> pd.DataFrame:
        """Return a frame with a row a record; metrics, params and tags get a column each."""
        import pandas as pd  # noqa: PLC0415 - no part of --help

        return pd.DataFrame([_flat(record.facts()) for record in self])

    def selected(self, columns: Sequence[str] = ()) -> tuple[list[str], list[list[Any]]]:
        """Return headings, and the plain JSON values below them.

        Args:
            columns: keys of the records' facts. `metrics` is one value, `metrics.rmse` that of one
                metric, `metrics.*` a column for each that matches; the bounds `rmse.low` and
                `rmse.high` are left out where `rmse` matches. Those of the list when left out.

        Raises:
            BadColumn: no record can have such a column.
        """
        facts = [record.facts() for record in self]
        paths = [path for column in columns or self.columns for path in _expanded(column, facts)]
        return [".".join(path) for path in paths], [
            [_value(each, path) for path in paths] for each in facts
        ]

    def grid(self, columns: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
        """Return what `selected` does as people read it."""
        heads, lines = self.selected(columns)
        return heads, [[text(value) for value in line] for line in lines]

    def _repr_html_(self) -> str:
        return _html(*self.grid(self.columns or list(self[0].facts()) if self else []))


def text(value: object) -> str:
    """Return one value as people read it: times to the minute, numbers with six digits."""
    match value:
        case None:
            return ""
        case float():
            return f"{value:.6g}"
        case dict() if "type" in value:  # a column of a signature
            return f"{value.get('name') or '-'}: {column_type(value)}"
        case dict():
            return ", ".join(f"{key}={text(each)}" for key, each in value.items())
        case list():
            return ", ".join(text(each) for each in value)
    return visible(_SECONDS.sub(r"\1 \2", str(value)))


def column_type(column: Mapping[str, Any]) -> str:
    """Return the type of a signature's column: `double`, `tensor(float64, [-1])`, ..."""
    if tensor := column.get("tensor-spec"):
        return f"tensor({tensor['dtype']}, {tensor['shape']})"
    inner = {key: column[key] for key in ("items", "properties", "shape") if column.get(key)}
    return f"{column['type']}{inner or ''}"


def _expanded(column: str, facts: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    group, dot, pattern = column.partition(".")
    known = list(facts[0]) if facts else [group]
    if group not in known or (dot and group not in _GROUPS):
        raise BadColumn(column, [*known, *(f"{each}.<key>" for each in _GROUPS)])
    if "*" not in pattern:
        return [(group, pattern.strip("`")) if dot else (group,)]
    keys = dict.fromkeys(key for each in facts for key in each[group])
    chosen = dict.fromkeys(key for key in keys if fnmatchcase(key, pattern))
    of = {key: _BOUND.sub("", key) if group == "metrics" else key for key in chosen}
    return [(group, key) for key in chosen if of[key] == key or of[key] not in chosen]


def _value(facts: dict[str, Any], path: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON value
    value = facts[path[0]]
    return value.get(path[1]) if len(path) > 1 else value


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if key in _GROUPS:
            flat |= {f"{key}.{each}": inner for each, inner in value.items()}
        else:
            flat[key] = value
    return flat


def _html(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', columns)}</thead><tbody>{body}</tbody></table>"
