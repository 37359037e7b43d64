"""Filters and orders over version records, parsed as SQL and evaluated here, never by `eval`.

Operands are a version's properties (`version`, `status`, `run_name`, `created_at`), `metrics.x`,
`params.x`, `tags.x` and `aliases`; odd keys stand in back-ticks: ``tags.`my key` ``.
A comparison with a value that a version lacks is false, as is its negation by `!=`;
`is null` finds such versions.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import expressions as sql

from lakescore.errors import BadReference, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakescore.registry.record import VersionRecord

_PROPERTIES = ("version", "status", "run_id", "run_name", "created_at", "logged_model_id")
_GROUPS = ("metrics", "params", "tags")
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
    return [record for record in records if _Evaluation(where, record).truth(condition)]


def best(records: Sequence[VersionRecord], order_by: str) -> list[VersionRecord]:
    """Return the *records* that stand first by *order_by* (`COLUMN [asc|desc]`): several on a tie.

    Records that lack the value never stand first.
    """
    column, descending = order_by.strip(), False
    if found := re.fullmatch(r"(.+?)\s+(asc|desc)", column, re.IGNORECASE):
        column, descending = found[1], found[2].lower() == "desc"
    operand = _parse(column)
    values = [(_Evaluation(order_by, record).value(operand), record) for record in records]
    known = [(value, record) for value, record in values if value is not None]
    if not known:
        return []
    first = (max if descending else min)(value for value, _ in known)
    return [record for value, record in known if value == first]


def _parse(text: str) -> sql.Expr:
    try:
        parsed = sqlglot.parse_one(text, dialect="spark")
    except sqlglot.errors.SqlglotError as error:
        reason = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0]
        raise BadReference(text, reason) from error
    return parsed


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
                return self.value(node.this) is None
            case sql.In() if not node.args.get("query"):
                wanted = [self.value(item) for item in node.expressions]
                return any(self._compare(operator.eq, node.this, item) for item in wanted)
            case sql.Like():
                return self._like(node)
            case _ if type(node) in _COMPARISONS:
                return self._compare(
                    _COMPARISONS[type(node)], node.this, self.value(node.expression)
                )
        raise self._refusal(node)

    def value(self, node: sql.Expr) -> Any:  # noqa: ANN401 - a property, number or string
        match node:
            case sql.Paren():
                return self.value(node.this)
            case sql.Literal():
                return node.this if node.is_string else float(node.this)
            case sql.Neg():
                return -float(self.value(node.this))
            case sql.Column() if node.table in _GROUPS and not node.db:
                return getattr(self._record, node.table).get(node.name)
            case sql.Column() if not node.table and node.name in _PROPERTIES:
                return getattr(self._record, node.name)
            case sql.Column() if not node.table and node.name == "aliases":
                return self._record.aliases
        raise self._refusal(node)

    def _compare(self, holds: Callable[[Any, Any], bool], node: sql.Expr, right: Any) -> bool:  # noqa: ANN401
        left = self.value(node)
        if left is None or right is None:
            return False
        if isinstance(left, tuple):  # aliases = 'champion': any of them
            return any(holds(each, right) for each in left)
        try:
            if isinstance(right, (int, float)) and isinstance(left, str):
                left = float(left)  # MLflow keeps params and tags as text
            elif not isinstance(right, str) or not isinstance(left, str):
                left, right = _same_kind(left, right)
            return holds(left, right)
        except ValueError:
            return False

    def _like(self, node: sql.Like) -> bool:
        text, pattern = self.value(node.this), self.value(node.expression)
        shape = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in str(pattern))
        texts = text if isinstance(text, tuple) else (text,)
        return any(t is not None and re.fullmatch(shape, str(t)) is not None for t in texts)

    def _refusal(self, node: sql.Expr) -> BadReference:
        asked = node.sql(dialect="spark")
        known = [*_PROPERTIES, "aliases", *(f"{group}.<key>" for group in _GROUPS)]
        return BadReference(
            self._text,
            f"{asked!r} is not a column or condition of model versions"
            f"{nearest(asked.split('.')[0], [*_PROPERTIES, 'aliases', *_GROUPS])} "
            f"(columns: {listed(known)})",
        )


def _same_kind(left: Any, right: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return both as text where one of them is (times compare as ISO 8601), else as they are."""
    if isinstance(right, str):
        return (left.isoformat(sep=" ") if hasattr(left, "isoformat") else str(left)), right
    return left, right
