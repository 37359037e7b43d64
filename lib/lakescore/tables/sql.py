"""SQL: names, values and predicates as Spark SQL writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def literal(text: str) -> str:
    """Return *text* as a literal of Spark SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted(name: str) -> str:
    """Return *name* as an identifier of Spark SQL."""
    return "`" + name.replace("`", "``") + "`"


def predicate(where: Mapping[str, Sequence[str]], prefix: str = "") -> str:
    """Return the predicate of rows that have one of the values of each column of *where*."""
    return " AND ".join(
        f"{prefix}{quoted(column)} IN ({', '.join(map(literal, values))})"
        for column, values in where.items()
    )
