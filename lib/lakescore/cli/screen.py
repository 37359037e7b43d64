"""Print tables and trees for people, in 80 columns."""

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
from lakescore.notation import size
from lakescore.registry.table import column_type, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.registry import Difference, File, VersionRecord
    from lakescore.registry.table import Rows

_SHOWN_APART = ("params", "metrics", "tags", "signature", "files")
_READABLE = 16
"""The characters of a column; a longer cell takes several lines."""
_BETWEEN = 3
"""The characters between two columns."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a text that is too long for its column continues on the next line.

    If the screen is too narrow for all columns, the table is turned: each column becomes a row. If
    the screen is too narrow for that too, each row becomes its own table.
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
    """Return whether all columns fit, each as wide as its cells or at least `_READABLE`."""
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
    """Print *records* as a table, or the line *nothing* if there are no records."""
    if not records:
        say(nothing)
        return
    heads, cells = records.grid(columns)
    # Leave out a column without values, unless the caller requested its columns.
    kept = [n for n in range(len(heads)) if columns or any(line[n] for line in cells)]
    table(
        [heads[n].replace(".", "\n", 1) for n in kept], [[line[n] for n in kept] for line in cells]
    )


def facts(values: Mapping[str, Any]) -> None:
    """Print *values* as a table of names and values; a nested name follows a dot."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [(f"{key}.{name}", _value_text(nested)) for name, nested in value.items()]
        else:
            lines.append((key, _value_text(value)))
    table(["", ""], [[key, value] for key, value in lines if value])


def _value_text(value: object) -> str:
    if value is None or value in ({}, []):
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def record(record: VersionRecord) -> None:
    """Print all facts about a version: its signature as a table, its files as a tree."""
    facts = record.facts()
    properties = {key: text(value) for key, value in facts.items() if key not in _SHOWN_APART}
    if record.size is not None:
        properties["size"] = size(record.size)
    table(["property", "value"], [[key, value] for key, value in properties.items() if value])
    for group in ("params", "metrics", "tags"):
        if facts[group]:
            say("")
            table([group, ""], [[key, text(value)] for key, value in sorted(facts[group].items())])
    if facts["signature"]:
        say("")
        table(["signature", "name", "type", ""], list(_signature_rows(facts["signature"])))
    if record.files:
        say("")
        files(record.uri, record.files)


def _signature_rows(signature: Mapping[str, Any]) -> Iterable[list[str]]:
    for part, columns in signature.items():
        for column in columns or []:
            note = "optional" if column.get("required") is False else ""
            if "default" in column:
                note = f"default {text(column['default'])}"
            yield [part, str(column.get("name") or "-"), column_type(column), note]


def files(title: str, files: Sequence[File]) -> None:
    """Print files as a tree, each with its size."""
    tree = Tree(escape(title))
    folders = {"": tree}
    for file in files:
        parts = file.path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in folders:
                above = folders["/".join(parts[: depth - 1])]
                folders[folder] = above.add(escape(parts[depth - 1] + "/"))
        folders["/".join(parts[:-1])].add(escape(f"{parts[-1]}  {size(file.size)}"))
    Console(highlight=False).print(tree)


def difference(difference: Difference) -> None:
    """Print versions side by side, and the verdicts below."""
    heads = [uri.removeprefix("models:/") for uri in difference.versions]
    body = [
        ["*" if line.differs else "", line.group, line.key, *map(_cell, line.values)]
        for line in difference.lines
    ]
    table(["", "", "", *heads], body)
    say("")
    for verdict in difference.verdicts:
        before, after = (uri.removeprefix("models:/") for uri in (verdict.before, verdict.after))
        say(f"{before} -> {after}: {verdict.verdict}: {'; '.join(verdict.reasons)}")


def _cell(value: object) -> str:
    shown = text(value)
    return shown[:19] if shown.startswith("sha256:") else shown
