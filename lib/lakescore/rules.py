"""Rules: conditions on the values of one column, written in SQL that can only compare.

A rule such as `between 0 and 120` follows the name of its column. It never runs as code: a parser
reads it, and each of its parts must be on a list.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlglot
from sqlglot import expressions as sql

if TYPE_CHECKING:
    from collections.abc import Callable

Condition: TypeAlias = tuple[Any, ...]
"""A condition as plain values, which workers evaluate (`executor.Checks`).

It is `("=", value)`, likewise `<`, `<=`, `>` and `>=`; `("in", values)`; `("like", pattern)`;
`("null",)`; `("not", condition)`; or `("and", condition, condition)`, likewise `or`. Values are
texts, booleans or numbers (`Decimal`).
"""
_LONGEST = 4000
_COMPARISONS: dict[type[sql.Expr], tuple[str, str]] = {
    sql.EQ: ("=", "="),
    sql.LT: ("<", ">"),
    sql.LTE: ("<=", ">="),
    sql.GT: (">", "<"),
    sql.GTE: (">=", "<="),
}
"""The comparison for the column at the left side, and for the column at the right side."""
_PARTS: dict[type[sql.Expr], set[str]] = {
    sql.Paren: {"this"},
    sql.And: {"this", "expression"},
    sql.Or: {"this", "expression"},
    sql.Not: {"this"},
    sql.Is: {"this", "expression"},
    sql.In: {"this", "expressions"},
    sql.Between: {"this", "low", "high"},
    sql.Like: {"this", "expression", "negate"},
    sql.NEQ: {"this", "expression"},
    **{kind: {"this", "expression"} for kind in _COMPARISONS},
    sql.Column: {"this"},
    sql.Literal: {"this", "is_string"},
    sql.Neg: {"this"},
    sql.Boolean: {"this"},
    sql.Cast: {"this", "to"},
    sql.Null: set(),
}
"""By type of node, the parts that `_Parser` reads; a node with another part says something else."""
_CAST_TO: dict[Any, type[date]] = {
    sql.DataType.Type.DATE: date,
    sql.DataType.Type.TIMESTAMP: datetime,
    sql.DataType.Type.TIMESTAMPTZ: datetime,
    sql.DataType.Type.TIMESTAMPLTZ: datetime,
}
"""The types that a text can be cast to, as Python reads them."""


def parse_rule(column: str, text: str) -> Condition:
    """Return the condition that *text* says about the values of *column*.

    It can compare (`= != < <= > >=`, `between`, `in`, `like`, `is null`) with numbers, texts,
    `true`, `false`, and dates (texts, or `DATE '2013-10-01'`), with `and`, `or`, `not`. After `and`
    and `or`, the column's name stands again.

    Raises:
        ValueError: the text cannot be parsed, names another column, or does more than compare.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"the rule is longer than {_LONGEST} characters")
    quoted = "`" + column.replace("`", "``") + "`"
    try:
        tree = sqlglot.parse_one(f"{quoted} {text}", dialect="spark")
        return _Parser(column).condition(tree)
    except sqlglot.errors.SqlglotError:
        raise ValueError(
            f"{text!r} is not a rule, such as: between 0 and 120, in ('a', 'b'), >= 0, is not null"
        ) from None
    except RecursionError:
        raise ValueError("the rule is nested too deeply") from None


class _Parser:
    """Turns the parser's tree into a condition; refuses all nodes that are not listed."""

    def __init__(self, column: str) -> None:
        self._column = column

    def condition(self, node: sql.Expr) -> Condition:  # noqa: C901, PLR0911 - one case a condition
        self._check_parts(node)
        match node:
            case sql.Paren():
                return self.condition(node.this)
            case sql.And():
                return "and", self.condition(node.left), self.condition(node.right)
            case sql.Or():
                return "or", self.condition(node.left), self.condition(node.right)
            case sql.Not():
                return "not", self.condition(node.this)
            case sql.Is() if isinstance(node.expression, sql.Null):
                self._check_column(node.this)
                return ("null",)
            case sql.In() if node.expressions:
                self._check_column(node.this)
                return "in", tuple(self._value(value) for value in node.expressions)
            case sql.Between():
                self._check_column(node.this)
                low, high = (self._value(node.args[name]) for name in ("low", "high"))
                return "and", (">=", low), ("<=", high)
            case sql.Like():
                self._check_column(node.this)
                like = "like", self._text(node.expression)
                return ("not", like) if node.args.get("negate") else like
            case sql.NEQ():
                return "not", self._compare(node, ("=", "="))
            case sql.EQ() | sql.LT() | sql.LTE() | sql.GT() | sql.GTE():
                return self._compare(node, _COMPARISONS[type(node)])
        raise self._refuse(node)

    def _compare(self, node: sql.Expr, signs: tuple[str, str]) -> Condition:
        left, right = node.args["this"], node.args["expression"]
        if isinstance(left, sql.Column):
            self._check_column(left)
            return signs[0], self._value(right)
        self._check_column(right)
        return signs[1], self._value(left)

    def _check_parts(self, node: sql.Expr) -> None:
        known = _PARTS.get(type(node))
        if known is None or any(part and name not in known for name, part in node.args.items()):
            raise self._refuse(node)

    def _check_column(self, node: sql.Expr) -> None:
        if type(node) is not sql.Column or node.table or node.name != self._column:
            raise ValueError(
                f"a rule compares its own column with constants, but this one names {node.sql()!r}"
            )

    def _value(self, node: sql.Expr) -> str | bool | Decimal:
        self._check_parts(node)
        match node:
            case sql.Literal():
                return str(node.this) if node.is_string else Decimal(node.this)
            case sql.Neg() if isinstance(node.this, sql.Literal) and not node.this.is_string:
                return -Decimal(node.this.this)
            case sql.Boolean():
                return bool(node.this)
            case sql.Paren():
                return self._value(node.this)
            case sql.Cast() if isinstance(node.this, sql.Literal) and node.this.is_string:
                return self._time(node)
            case sql.Null():
                raise ValueError("nothing is equal to null; write is null or is not null")
        raise self._refuse(node)

    def _time(self, node: sql.Cast) -> str:
        """Return the text of a date or a time, such as `DATE '2013-10-01'`, as it is written."""
        text, kind = str(node.this.this), _CAST_TO.get(node.to.this)
        if kind is None:
            raise self._refuse(node)
        try:
            kind.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is not written as a {kind.__name__}") from None
        return text

    def _text(self, node: sql.Expr) -> str:
        if not (isinstance(node, sql.Literal) and node.is_string):
            raise self._refuse(node)
        return str(node.this)

    @staticmethod
    def _refuse(node: sql.Expr) -> ValueError:
        return ValueError(f"{node.sql()[:60]!r} is not allowed in a rule, which can only compare")


def map_values(condition: Condition, change: Callable[[Any], Any]) -> Condition:
    """Return *condition* with its values changed; patterns of `like` stay."""
    kind, *parts = condition
    match kind:
        case "null" | "like":
            return condition
        case "not" | "and" | "or":
            return kind, *[map_values(part, change) for part in parts]
        case "in":
            return kind, tuple(change(value) for value in parts[0])
    return kind, change(parts[0])


def list_values(condition: Condition) -> list[Any]:
    """Return the values that *condition* compares with; patterns of `like` are none."""
    values: list[Any] = []
    map_values(condition, values.append)
    return values


def uses_like(condition: Condition) -> bool:
    """Return whether *condition* has a pattern, which only texts can match."""
    kind, *parts = condition
    return kind == "like" or (kind in {"not", "and", "or"} and any(map(uses_like, parts)))
