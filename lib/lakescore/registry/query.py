"""Filters and orders over version records, parsed as SQL and evaluated here, never by `eval`.

Operands are a version's properties (`version`, `status`, `run_name`, `created_at`), `metrics.x`,
`params.x`, `tags.x` and `aliases`; odd keys stand in back-ticks: ``tags.`my key` ``.
Text is compared as a number where the other side is one, and as a time (ISO 8601, UTC unless it
says otherwise) where the other side is one. `aliases = 'x'` holds for any of them, and
`aliases != 'x'` for none. Any other comparison with a value that a version lacks, or that cannot be
read so, is false; `is null` finds what a version lacks.
"""

from __future__ import annotations

import math
import operator
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import expressions as sql

from lakescore.errors import BadReference, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakescore.registry.record import VersionRecord

Value = str | float | datetime | tuple[str, ...] | None

_PROPERTIES = ("version", "status", "run_id", "run_name", "created_at", "logged_model_id")
_GROUPS = ("metrics", "params", "tags")
_COLUMNS = (*_PROPERTIES, "aliases", *(f"{group}.<key>" for group in _GROUPS))
_COMPARISONS: dict[type[sql.Expr], Callable[[Any, Any], bool]] = {
    sql.EQ: operator.eq,
    sql.NEQ: operator.ne,
    sql.LT: operator.lt,
    sql.LTE: operator.le,
    sql.GT: operator.gt,
    sql.GTE: operator.ge,
}


def matching(records: Sequence[VersionRecord], where: str) -> list[VersionRecord]:
    """Return the *records* for which the filter *where* holds.

    Raises:
        BadReference: *where* does not parse, or asks for more than comparisons.
    """
    condition = _parse(where)
    try:
        return [record for record in records if _Evaluation(where, record).truth(condition)]
    except RecursionError:
        raise BadReference(where[:80], "it is nested too deeply") from None


def best(records: Sequence[VersionRecord], order_by: str) -> list[VersionRecord]:
    """Return the *records* that stand first by *order_by* (`COLUMN [asc|desc]`): several on a tie.

    Records that lack the value never stand first. Text is ordered as numbers where all of it is.
    """
    column, descending = order_by.strip(), False
    if found := re.fullmatch(r"(.+?)\s+(asc|desc)", column, re.IGNORECASE):
        column, descending = found[1], found[2].lower() == "desc"
    operand = _parse(column)
    values = [_Evaluation(order_by, record).value(operand) for record in records]
    if any(isinstance(value, tuple) for value in values):
        raise BadReference(order_by, "versions cannot be ordered by their aliases")
    numbers = [None if value is None else _number(value) for value in values]
    texts = any(number is None is not value for number, value in zip(numbers, values, strict=True))
    known = {
        n: value
        for n, value in enumerate(values if texts else numbers)
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }
    if not known:
        return []
    found_first: Callable[[Any], Any] = max if descending else min
    first = found_first(known.values())
    return [records[n] for n, value in known.items() if value == first]


def _parse(text: str) -> sql.Expr:
    try:
        return sqlglot.parse_one(text, dialect="spark")
    except sqlglot.errors.SqlglotError as error:
        reason = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0]
        raise BadReference(text, reason) from error
    except RecursionError:
        raise BadReference(text[:80], "it is nested too deeply") from None


class _Evaluation:
    """One filter over one record."""

    def __init__(self, text: str, record: VersionRecord) -> None:
        self._text, self._record = text, record

    def truth(self, node: sql.Expr) -> bool:  # noqa: PLR0911 - a case a condition
        match node:
            case sql.Paren():
                return self.truth(node.this)
            case sql.And():
                return self.truth(node.left) and self.truth(node.right)
            case sql.Or():
                return self.truth(node.left) or self.truth(node.right)
            case sql.Not():
                return not self.truth(node.this)
            case sql.Is() if isinstance(node.expression, sql.Null):
                return self.value(node.this) in (None, ())
            case sql.In() if not node.args.get("query"):
                return any(self._compare(sql.EQ(), node.this, each) for each in node.expressions)
            case sql.Like():
                return self._like(node)
            case _ if type(node) in _COMPARISONS:
                return self._compare(node, node.this, node.expression)
        raise self._refusal(node)

    def value(self, node: sql.Expr) -> Value:
        match node:
            case sql.Paren():
                return self.value(node.this)
            case sql.Literal():
                return str(node.this) if node.is_string else float(node.this)
            case sql.Neg() if isinstance(node.this, sql.Literal) and not node.this.is_string:
                return -float(node.this.this)
            case sql.Column() if node.table in _GROUPS and not node.db:
                found: Value = getattr(self._record, node.table).get(node.name)
                return found
            case sql.Column() if not node.table and node.name in (*_PROPERTIES, "aliases"):
                of_record = getattr(self._record, node.name)
                return float(of_record) if isinstance(of_record, int) else of_record
        raise self._refusal(node)

    def _compare(self, comparison: sql.Expr, left_node: sql.Expr, right_node: sql.Expr) -> bool:
        holds = _COMPARISONS[type(comparison)]
        left, right = self.value(left_node), self.value(right_node)
        if isinstance(left, tuple) or isinstance(right, tuple):
            if not isinstance(comparison, (sql.EQ, sql.NEQ)) or not isinstance(left, tuple):
                raise BadReference(self._text, "write aliases = 'x' or aliases != 'x'")
            return (right in left) == isinstance(comparison, sql.EQ)
        for kind, read in ((float, _number), (datetime, _time)):
            if isinstance(left, kind) or isinstance(right, kind):
                left, right = read(left), read(right)
        return left is not None and right is not None and holds(left, right)

    def _like(self, node: sql.Like) -> bool:
        text, pattern = self.value(node.this), self.value(node.expression)
        shape = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in str(pattern))
        texts = text if isinstance(text, tuple) else (text,)
        return any(t is not None and re.fullmatch(shape, str(t)) is not None for t in texts)

    def _refusal(self, node: sql.Expr) -> BadReference:
        asked = node.sql(dialect="spark")
        near = nearest(asked.split(".")[0], [*_PROPERTIES, "aliases", *_GROUPS])
        return BadReference(
            self._text,
            f"{asked!r} is not a column or condition of model versions"
            f"{'' if repr(asked) in near else near} (columns: {listed(_COLUMNS)})",
        )


def _number(value: Value) -> float | None:
    try:
        return float(value) if isinstance(value, (str, float)) else None
    except ValueError:
        return None


def _time(value: Value) -> datetime | None:
    try:
        read = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(read, datetime):
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
