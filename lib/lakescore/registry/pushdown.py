"""Which conditions of a filter MLflow's server can evaluate, and these in MLflow's own language."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlglot import expressions as sql

_SERVER_COLUMNS = {"version": "version_number", "run_id": "run_id", "source": "source_path"}
_OPERATORS: dict[type[sql.Expr], str] = {
    sql.EQ: "=",
    sql.NEQ: "!=",
    sql.LT: "<",
    sql.LTE: "<=",
    sql.GT: ">",
    sql.GTE: ">=",
}
_SAFE_KEY = re.compile(r"[\w. -]+")
_SAFE_TEXT = re.compile(r"[^'\"\\`\x00-\x1f]*")


@dataclass(frozen=True)
class SplitFilter:
    """The conditions of a filter, by the place of their evaluation."""

    server: tuple[str, ...]
    """Conditions in MLflow's own language, for the server."""
    here: tuple[str, ...]
    """Conditions that only lakescore can evaluate."""
    files: bool
    """Whether the versions' files must be read if `register` recorded no card."""


def split(node: sql.Expr, *, files: bool) -> SplitFilter:
    """Return the conditions of the filter *node*, each for the place that can evaluate it."""
    server, here = [], []
    for part in _conjuncts(node):
        condition = _server_condition(part)
        if condition is None:
            here.append(part.sql())
        else:
            server.append(condition)
    return SplitFilter(tuple(server), tuple(here), files)


def _conjuncts(node: sql.Expr) -> list[sql.Expr]:
    match node:
        case sql.Paren():
            return _conjuncts(node.this)
        case sql.And():
            return [*_conjuncts(node.left), *_conjuncts(node.right)]
    return [node]


def _server_condition(node: sql.Expr) -> str | None:
    """Return *node* in MLflow's language; None if MLflow would drop versions that match *node*.

    So it is for `!=` on a tag: MLflow drops the versions that lack the tag.
    """
    column = node.this
    if not isinstance(column, sql.Column):
        return None
    group, *keys = [part.name for part in column.parts]
    if group == "tags" and keys and _SAFE_KEY.fullmatch(".".join(keys)):
        operand = f"tags.`{'.'.join(keys)}`"
    elif group in _SERVER_COLUMNS and not keys:
        operand = _SERVER_COLUMNS[group]
    else:
        return None
    return _translate(node, operand, numeric=group == "version")


def _translate(node: sql.Expr, operand: str, *, numeric: bool) -> str | None:
    value = node.args.get("expression")
    if isinstance(node, sql.In) and operand == "run_id":
        texts = [_quote_text(option) for option in node.expressions]
        return None if None in texts or not texts else f"run_id IN ({', '.join(map(str, texts))})"
    if numeric:
        digits = isinstance(value, sql.Literal) and re.fullmatch(r"\d{1,9}", str(value.this))
        comparison = _OPERATORS.get(type(node))
        return f"{operand} {comparison} {digits[0]}" if digits and comparison else None
    quoted = _quote_text(value)
    if quoted is None or not isinstance(node, (sql.EQ, sql.Like)) or node.args.get("negate"):
        return None
    return f"{operand} {'=' if isinstance(node, sql.EQ) else 'LIKE'} {quoted}"


def _quote_text(value: object) -> str | None:
    if isinstance(value, sql.Literal) and value.is_string and _SAFE_TEXT.fullmatch(value.this):
        return f"'{value.this}'"
    return None
