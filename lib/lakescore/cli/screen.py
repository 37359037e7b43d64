"""Tables and trees for people, in 80 columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from lakescore.cli.app import say
from lakescore.registry.table import column_type, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.registry import Difference, File, VersionRecord
    from lakescore.registry.table import Rows

_SHOWN_APART = ("params", "metrics", "tags", "signature", "files")
_READABLE = 16
"""Characters of a column, of which a longer cell takes several lines."""
_BETWEEN = 3
"""Characters between two columns."""
_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; what is too long for its column goes on in the next line of its cell.

    Where the screen is too narrow for so many columns, the table is turned, with a column a row;
    and if there are too many of these as well, each row is a table of its own.
    """
    console, lines = Console(highlight=False), [list(row) for row in rows]
    if _fits(console, columns, lines):
        _print(console, columns, lines)
        return
    names = [column.replace("\n", ".") for column in columns]
    turned = [list(line) for line in zip(names, *lines, strict=True)]
    if _fits(console, turned[0], turned[1:]):
        _print(console, turned[0], turned[1:])
        return
    for n, line in enumerate(lines):
        pairs = [pair for pair in zip(names, line, strict=True) if pair[1]]
        if n:
            console.print()
        _print(console, pairs[0], pairs[1:])


def _fits(console: Console, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> bool:
    """Tell whether all columns are as wide as what they hold, or at least `_READABLE`."""
    widest = [max(_width(cell) for cell in column) for column in zip(heads, *lines, strict=True)]
    between = _BETWEEN * (len(heads) - 1)
    return sum(min(_READABLE, width) for width in widest) + between <= console.width


def _width(cell: str) -> int:
    return max(map(cell_len, cell.split("\n")))


def _print(console: Console, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in heads:
        shown.add_column(escape(head), overflow="fold")
    for line in lines:
        shown.add_row(*[escape(cell) for cell in line])
    console.print(shown)


def rows(records: Rows[Any], columns: Sequence[str], nothing: str) -> None:
    """Print *records* as a table, or the line *nothing* where there are none."""
    if not records:
        say(nothing)
        return
    heads, cells = records.grid(columns)
    # A column in which no record says anything tells nothing, unless it was asked for.
    kept = [n for n in range(len(heads)) if columns or any(line[n] for line in cells)]
    table(
        [heads[n].replace(".", "\n", 1) for n in kept], [[line[n] for n in kept] for line in cells]
    )


def facts(told: Mapping[str, Any]) -> None:
    """Print *told* as a table of names and values; mappings within as names after a dot."""
    lines: list[tuple[str, str]] = []
    for key, value in told.items():
        if isinstance(value, dict):
            lines += [(f"{key}.{name}", _shown(each)) for name, each in value.items()]
        else:
            lines.append((key, _shown(value)))
    table(["", ""], [[key, value] for key, value in lines if value])


def _shown(value: object) -> str:
    if value is None or value in ({}, []):
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def record(record: VersionRecord) -> None:
    """Print all that is known of a version, its signature as a table and its files as a tree."""
    facts = record.facts()
    told = {key: text(value) for key, value in facts.items() if key not in _SHOWN_APART}
    if record.size is not None:
        told["size"] = size(record.size)
    table(["property", "value"], [[key, value] for key, value in told.items() if value])
    for group in ("params", "metrics", "tags"):
        if facts[group]:
            say("")
            table([group, ""], [[key, text(each)] for key, each in sorted(facts[group].items())])
    if facts["signature"]:
        say("")
        table(["signature", "name", "type", ""], list(_signature(facts["signature"])))
    if record.files:
        say("")
        files(record.uri, record.files)


def _signature(signature: Mapping[str, Any]) -> Iterable[list[str]]:
    for part, columns in signature.items():
        for column in columns or []:
            more = "optional" if column.get("required") is False else ""
            if "default" in column:
                more = f"default {text(column['default'])}"
            yield [part, str(column.get("name") or "-"), column_type(column), more]


def files(title: str, there: Sequence[File]) -> None:
    """Print files as a tree, each with its size."""
    tree = Tree(escape(title))
    folders = {"": tree}
    for file in there:
        parts = file.path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in folders:
                above = folders["/".join(parts[: depth - 1])]
                folders[folder] = above.add(escape(parts[depth - 1] + "/"))
        folders["/".join(parts[:-1])].add(escape(f"{parts[-1]}  {size(file.size)}"))
    Console(highlight=False).print(tree)


def difference(found: Difference) -> None:
    """Print versions side by side, and the verdicts below."""
    heads = [uri.removeprefix("models:/") for uri in found.versions]
    body = [
        ["*" if line.differs else "", line.group, line.key, *map(_cell, line.values)]
        for line in found.lines
    ]
    table(["", "", "", *heads], body)
    say("")
    for verdict in found.verdicts:
        before, after = (uri.removeprefix("models:/") for uri in (verdict.before, verdict.after))
        say(f"{before} -> {after}: {verdict.verdict}: {'; '.join(verdict.reasons)}")


def _cell(value: object) -> str:
    shown = text(value)
    return shown[:19] if shown.startswith("sha256:") else shown


def size(number: int) -> str:
    """Return a number of bytes as people read it: `561 B`, `12.3 MB`."""
    value, unit = float(number), 0
    while value >= _THOUSAND and unit < len(_UNITS) - 1:
        value, unit = value / _THOUSAND, unit + 1
    return f"{value:.3g} {_UNITS[unit]}" if unit else f"{number} B"
