"""Filters and orders over version records: a SQL parser reads them; they never run as code.

Operands are a version's properties (`version`, `status`, `run_name`, `created_at`, ...),
`metrics.x`, `params.x`, `tags.x`, `aliases`, and the facts of its files (`flavours`, `size`, ...).
Put other keys into back-ticks: ``tags.`my key` ``.
A text is compared as a number if the other side is a number, and as a time (ISO 8601, UTC if it has
no time zone) if the other side is a time. `aliases = 'x'` is true if any alias is `x`.
There are two truth values. A comparison is false if the version lacks the value, or if the value
cannot be read as a number or a time. `!=`, `not in` and `not` are the exact opposite of `=`, `in`
and the condition after `not`, so `tags.team != 'ops'` finds the versions without a team. `is null`
finds the versions that lack a value.

The server filters by the conditions that it can evaluate. This module evaluates all conditions
again: the server's filter only saves time.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import expressions as sql

from lakescore.registry.errors import BadFilter
from lakescore.registry.pushdown import split
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lakescore.registry.record import VersionRecord

Value = str | float | datetime | tuple[str, ...] | None
Operand = Callable[["VersionRecord"], Value]
Condition = Callable[["VersionRecord"], bool]

_FILE_FACTS = ("flavours", "formats", "mlflow_version", "python_version", "size", "digest")
_PROPERTIES = (
    "version", "status", "description", "created_at", "updated_at", "run_id", "run_name", "source",
    "logged_model_id", "aliases", *_FILE_FACTS,
)  # fmt: skip
_GROUPS = ("metrics", "params", "tags")
COLUMNS = (*_PROPERTIES, *(f"{group}.<key>" for group in _GROUPS))
_LONGEST = 4000
# Double a quote to write it within quotes; keys can stand in back-ticks; no character escapes.
_DIALECT = "sqlite"
_ORDERINGS: dict[type[sql.Expr], Callable[[Any, Any], bool]] = {
    sql.LT: operator.lt,
    sql.LTE: operator.le,
    sql.GT: operator.gt,
    sql.GTE: operator.ge,
}
_REASONS = {
    "Required keyword": "a value or a condition is missing",
    "Expecting )": "a ')' is missing",
    "Invalid expression": "this does not belong here",
}


class Filter:
    """A filter, parsed once.

    Raises:
        BadFilter: the text cannot be parsed, or has more than comparisons; the error says where.
    """

    def __init__(self, text: str) -> None:
        self._node = _parse(text)
        try:
            self._holds = _Compiler(text).condition(self._node)
            self.plan = split(self._node, files=_needs_files(self._node))
        except RecursionError:
            raise BadFilter(text[:80], "it is nested too deeply") from None

    def matching(self, records: Iterable[VersionRecord]) -> list[VersionRecord]:
        """Return the *records* for which the filter is true."""
        return [record for record in records if self._holds(record)]


class Order:
    """An order, `COLUMN [asc|desc]`, parsed once.

    Raises:
        BadFilter: the text is not a column, or the column has no order.
    """

    def __init__(self, text: str) -> None:
        column, self._descending = text.strip(), False
        if match := re.fullmatch(r"(.+?)\s+(asc|desc)", column, re.IGNORECASE):
            column, self._descending = match[1], match[2].lower() == "desc"
        node = _parse(column)
        if not isinstance(node, sql.Column):
            raise BadFilter(text, "an order is one column, followed by asc or desc")
        if node.name in ("aliases", "flavours", "formats") and not node.table:
            raise BadFilter(text, f"versions cannot be ordered by their {node.name}")
        self._operand = _Compiler(text).operand(node)
        self.files = _needs_files(node)

    def sorted(self, records: Iterable[VersionRecord]) -> list[VersionRecord]:
        """Return the *records* in this order; records that lack the value come last.

        Records with equal values keep their order. Texts are ordered as numbers if all are numbers.
        """
        known, lacking = self._split_by_value(records)
        known.sort(key=operator.itemgetter(0), reverse=self._descending)
        return [record for _, record in known] + lacking

    def first(self, records: Iterable[VersionRecord]) -> list[VersionRecord]:
        """Return the first of the *records*: several if tied, none of those that lack the value."""
        known, _ = self._split_by_value(records)
        if not known:
            return []
        best = (max if self._descending else min)(key for key, _ in known)
        return [record for key, record in known if key == best]

    def _split_by_value(
        self, records: Iterable[VersionRecord]
    ) -> tuple[list[tuple[Any, VersionRecord]], list[VersionRecord]]:
        values = [(self._operand(record), record) for record in records]
        known = [(v, r) for v, r in values if v is not None and not _is_nan(v)]
        lacking = [r for v, r in values if v is None or _is_nan(v)]
        numbers = [(_number(value), record) for value, record in known]
        return (known if any(n is None for n, _ in numbers) else numbers), lacking


def _parse(text: str) -> sql.Expr:
    if len(text) > _LONGEST:
        raise BadFilter(text[:80] + "...", f"it is longer than {_LONGEST} characters")
    if not text.isprintable():
        raise BadFilter(text, "it holds characters that cannot be seen")
    try:
        return sqlglot.parse_one(text, dialect=_DIALECT)
    except sqlglot.errors.ParseError as error:
        problem = error.errors[0] if error.errors else {}
        message = str(problem.get("description") or "it cannot be parsed")
        reason = next(
            (translation for phrase, translation in _REASONS.items() if phrase in message), message
        )
        highlight = str(problem.get("highlight") or "")
        position = problem.get("col", len(highlight)) - len(highlight)
        raise BadFilter(text, reason, position if highlight else None) from None
    except sqlglot.errors.SqlglotError:
        raise BadFilter(text, "a quote is not closed", _last_quote(text)) from None
    except RecursionError:
        raise BadFilter(text[:80], "it is nested too deeply") from None


def _last_quote(text: str) -> int | None:
    positions = [match.start() for match in re.finditer(r"['\"`]", text)]
    return positions[-1] if positions else None


class _Compiler:
    """Turn the parser's tree into functions of a record; refuse all nodes that are not listed."""

    def __init__(self, text: str) -> None:
        self._text = text

    def condition(self, node: sql.Expr) -> Condition:  # noqa: C901, PLR0911 - one case per condition
        match node:
            case sql.Paren():
                return self.condition(node.this)
            case sql.And():
                left, right = self.condition(node.left), self.condition(node.right)
                return lambda record: left(record) and right(record)
            case sql.Or():
                left, right = self.condition(node.left), self.condition(node.right)
                return lambda record: left(record) or right(record)
            case sql.Not():
                inner = self.condition(node.this)
                return lambda record: not inner(record)
            case sql.Is() if isinstance(node.expression, sql.Null):
                operand = self.operand(node.this)
                return lambda record: operand(record) in (None, ())
            case sql.In() if node.args.get("field"):
                return self._equality(node.this, node.args["field"])
            case sql.In() if not node.args.get("query"):
                options = [self._equality(node.this, value) for value in node.expressions]
                return lambda record: any(holds(record) for holds in options)
            case sql.Between():
                low = self._ordering(operator.ge, node.this, node.args["low"])
                high = self._ordering(operator.le, node.this, node.args["high"])
                return lambda record: low(record) and high(record)
            case sql.Like() | sql.ILike():
                return self._likeness(node)
            case sql.EQ():
                return self._equality(node.left, node.right)
            case sql.NEQ():
                equal = self._equality(node.left, node.right)
                return lambda record: not equal(record)
            case sql.LT() | sql.LTE() | sql.GT() | sql.GTE():
                return self._ordering(_ORDERINGS[type(node)], node.left, node.right)
        raise self._refusal(node)

    def operand(self, node: sql.Expr) -> Operand:
        match node:
            case sql.Paren():
                return self.operand(node.this)
            case sql.Literal():
                value = str(node.this) if node.is_string else float(node.this)
                return lambda _: value
            case sql.Neg() if isinstance(node.this, sql.Literal) and not node.this.is_string:
                number = -float(node.this.this)
                return lambda _: number
            case sql.Column():
                return self._column(node)
        raise self._refusal(node)

    def _column(self, node: sql.Column) -> Operand:
        group, *keys = [part.name for part in node.parts]
        if group in _GROUPS and keys:
            key = ".".join(keys)
            return lambda record: getattr(record, group).get(key)
        if group in _PROPERTIES and not keys:
            return lambda record: _comparable(getattr(record, group))
        raise self._refusal(node)

    def _equality(self, left: sql.Expr, right: sql.Expr) -> Condition:
        first, second = self.operand(left), self.operand(right)

        def holds(record: VersionRecord) -> bool:
            one, other = first(record), second(record)
            if isinstance(one, tuple):
                return other in one
            if isinstance(other, tuple):
                return one in other
            one, other = _convert_alike(one, other)
            return one is not None and one == other

        return holds

    def _ordering(
        self, compare: Callable[[Any, Any], bool], left: sql.Expr, right: sql.Expr
    ) -> Condition:
        for node in (left, right):
            if isinstance(node, sql.Column) and node.name in ("aliases", "flavours", "formats"):
                raise BadFilter(
                    self._text, f"{node.name} are compared with =, !=, in and like", _position(node)
                )
        first, second = self.operand(left), self.operand(right)

        def holds(record: VersionRecord) -> bool:
            one, other = _convert_alike(first(record), second(record))
            return one is not None and other is not None and compare(one, other)

        return holds

    def _likeness(self, node: sql.Like | sql.ILike) -> Condition:
        operand, pattern = self.operand(node.this), node.expression
        if not (isinstance(pattern, sql.Literal) and pattern.is_string):
            raise self._refusal(node)
        shape = re.compile(
            "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in str(pattern.this)),
            re.DOTALL | (re.IGNORECASE if isinstance(node, sql.ILike) else 0),
        )

        def holds(record: VersionRecord) -> bool:
            value = operand(record)
            texts = value if isinstance(value, tuple) else (value,)
            return any(isinstance(text, str) and shape.fullmatch(text) for text in texts)

        if node.args.get("negate"):
            return lambda record: not holds(record)
        return holds

    def _refusal(self, node: sql.Expr) -> BadFilter:
        requested = node.sql()
        first = re.split(r"[.(\s]", requested)[0]
        near = nearest(first, [*_PROPERTIES, *_GROUPS]) if isinstance(node, sql.Column) else ""
        return BadFilter(
            self._text,
            f"{requested[:60]!r} is not a column or condition of model versions"
            f"{'' if repr(requested) in near else near}; columns: {listed(COLUMNS, most=40)}",
            _position(node),
        )


def _position(node: sql.Expr) -> int | None:
    """Return the position of *node* in the text; None if the parser did not keep it."""
    starts = [child.meta["start"] for child in node.walk() if "start" in child.meta]
    return min(starts, default=None)


def _needs_files(node: sql.Expr) -> bool:
    return any(not c.table and c.name in _FILE_FACTS for c in node.find_all(sql.Column))


def _comparable(value: Any) -> Value:  # noqa: ANN401 - any property
    return float(value) if isinstance(value, int) else value


def _convert_alike(one: Value, other: Value) -> tuple[Any, Any]:
    """Return both as numbers if one is a number, or both as times if one is a time."""
    for kind, convert in ((float, _number), (datetime, _time)):
        if isinstance(one, kind) or isinstance(other, kind):
            return convert(one), convert(other)
    return one, other


def _is_nan(value: Value) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _number(value: Value) -> float | None:
    try:
        return float(value) if isinstance(value, (str, float)) else None
    except ValueError:
        return None


def _time(value: Value) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(time, datetime):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
