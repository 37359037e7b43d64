"""Filters and orders over version records: parsed as SQL by a real parser, never evaluated as code.

Operands are a version's properties (`version`, `status`, `run_name`, `created_at`, ...),
`metrics.x`, `params.x`, `tags.x`, `aliases`, and what its files say (`flavours`, `size`, ...); odd
keys stand in back-ticks: ``tags.`my key` ``.
Text is compared as a number where the other side is one, and as a time (ISO 8601, UTC unless it
says otherwise) where the other side is one. `aliases = 'x'` holds for any of them.
There are two truths: a comparison with a value that a version lacks, or that cannot be read so, is
false; `!=`, `not in` and `not` are the exact opposite of `=`, `in` and what stands after them, so
`tags.team != 'ops'` finds the versions without a team. `is null` finds what a version lacks.

The server filters what it can and nothing else, and all is evaluated here again: what it filters
only saves time.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import expressions as sql

from lakescore.errors import BadFilter, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lakescore.registry.record import VersionRecord

Value = str | float | datetime | tuple[str, ...] | None
Operand = Callable[["VersionRecord"], Value]
Condition = Callable[["VersionRecord"], bool]

_OF_FILES = ("flavours", "formats", "mlflow_version", "python_version", "size", "digest")
_PROPERTIES = (
    "version", "status", "description", "created_at", "updated_at", "run_id", "run_name", "source",
    "logged_model_id", "aliases", *_OF_FILES,
)  # fmt: skip
_GROUPS = ("metrics", "params", "tags")
COLUMNS = (*_PROPERTIES, *(f"{group}.<key>" for group in _GROUPS))
_LONGEST = 4000
# Quotes are doubled within quotes, keys may stand in back-ticks, and nothing is an escape.
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
_ON_SERVER = {"version": "version_number", "run_id": "run_id", "source": "source_path"}
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
    """Where a filter is evaluated."""

    server: tuple[str, ...]
    """Conditions in MLflow's own language, which the server filters by."""
    here: tuple[str, ...]
    """Conditions that only lakescore can evaluate."""
    files: bool
    """Whether the versions' files must be asked, where `register` recorded nothing of them."""


class Filter:
    """A filter, read once.

    Raises:
        BadFilter: the text does not parse, or asks for more than comparisons; says where.
    """

    def __init__(self, text: str) -> None:
        self._node = _parse(text)
        try:
            self._holds = _Reading(text).condition(self._node)
            self.plan = self._planned()
        except RecursionError:
            raise BadFilter(text[:80], "it is nested too deeply") from None

    def matching(self, records: Iterable[VersionRecord]) -> list[VersionRecord]:
        """Return the *records* for which the filter holds."""
        return [record for record in records if self._holds(record)]

    def _planned(self) -> SplitFilter:
        server, here = [], []
        for node in _conjuncts(self._node):
            sent = _for_server(node)
            if sent is None:
                here.append(node.sql())
            else:
                server.append(sent)
        return SplitFilter(tuple(server), tuple(here), _asks_files(self._node))


class Order:
    """An order, `COLUMN [asc|desc]`, read once.

    Raises:
        BadFilter: the text is no column, or one that has no order.
    """

    def __init__(self, text: str) -> None:
        column, self._descending = text.strip(), False
        if found := re.fullmatch(r"(.+?)\s+(asc|desc)", column, re.IGNORECASE):
            column, self._descending = found[1], found[2].lower() == "desc"
        node = _parse(column)
        if not isinstance(node, sql.Column):
            raise BadFilter(text, "an order is one column, with asc or desc behind it")
        if node.name in ("aliases", "flavours", "formats") and not node.table:
            raise BadFilter(text, f"versions cannot be ordered by their {node.name}")
        self._operand = _Reading(text).operand(node)
        self.files = _asks_files(node)

    def sorted(self, records: Iterable[VersionRecord]) -> list[VersionRecord]:
        """Return the *records* in this order, those that lack the value last.

        Equal ones keep their order. Text is ordered as numbers where all of it is.
        """
        known, lacking = self._keyed(records)
        known.sort(key=operator.itemgetter(0), reverse=self._descending)
        return [record for _, record in known] + lacking

    def first(self, records: Iterable[VersionRecord]) -> list[VersionRecord]:
        """Return the *records* that stand first: several on a tie, none that lacks the value."""
        known, _ = self._keyed(records)
        if not known:
            return []
        best = (max if self._descending else min)(key for key, _ in known)
        return [record for key, record in known if key == best]

    def _keyed(
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
        said = str(problem.get("description") or "it cannot be parsed")
        reason = next((ours for theirs, ours in _REASONS.items() if theirs in said), said)
        highlight = str(problem.get("highlight") or "")
        at = problem.get("col", len(highlight)) - len(highlight)
        raise BadFilter(text, reason, at if highlight else None) from None
    except sqlglot.errors.SqlglotError:
        raise BadFilter(text, "a quote is not closed", _last_quote(text)) from None
    except RecursionError:
        raise BadFilter(text[:80], "it is nested too deeply") from None


def _last_quote(text: str) -> int | None:
    places = [found.start() for found in re.finditer(r"['\"`]", text)]
    return places[-1] if places else None


class _Reading:
    """Turns the parser's tree into functions of a record; what is not listed here is refused."""

    def __init__(self, text: str) -> None:
        self._text = text

    def condition(self, node: sql.Expr) -> Condition:  # noqa: C901, PLR0911 - a case a condition
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
                options = [self._equality(node.this, each) for each in node.expressions]
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
            return lambda record: _plain(getattr(record, group))
        raise self._refusal(node)

    def _equality(self, left: sql.Expr, right: sql.Expr) -> Condition:
        first, second = self.operand(left), self.operand(right)

        def holds(record: VersionRecord) -> bool:
            one, other = first(record), second(record)
            if isinstance(one, tuple):
                return other in one
            if isinstance(other, tuple):
                return one in other
            one, other = _alike(one, other)
            return one is not None and one == other

        return holds

    def _ordering(
        self, compare: Callable[[Any, Any], bool], left: sql.Expr, right: sql.Expr
    ) -> Condition:
        for node in (left, right):
            if isinstance(node, sql.Column) and node.name in ("aliases", "flavours", "formats"):
                raise BadFilter(
                    self._text, f"{node.name} are compared with =, !=, in and like", _place(node)
                )
        first, second = self.operand(left), self.operand(right)

        def holds(record: VersionRecord) -> bool:
            one, other = _alike(first(record), second(record))
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
            return any(isinstance(each, str) and shape.fullmatch(each) for each in texts)

        if node.args.get("negate"):
            return lambda record: not holds(record)
        return holds

    def _refusal(self, node: sql.Expr) -> BadFilter:
        asked = node.sql()
        first = re.split(r"[.(\s]", asked)[0]
        near = nearest(first, [*_PROPERTIES, *_GROUPS]) if isinstance(node, sql.Column) else ""
        return BadFilter(
            self._text,
            f"{asked[:60]!r} is not a column or condition of model versions"
            f"{'' if repr(asked) in near else near}; columns: {listed(COLUMNS, most=40)}",
            _place(node),
        )


def _place(node: sql.Expr) -> int | None:
    """Return where *node* begins in the text, as far as the parser kept it."""
    starts = [each.meta["start"] for each in node.walk() if "start" in each.meta]
    return min(starts, default=None)


def _conjuncts(node: sql.Expr) -> list[sql.Expr]:
    match node:
        case sql.Paren():
            return _conjuncts(node.this)
        case sql.And():
            return [*_conjuncts(node.left), *_conjuncts(node.right)]
    return [node]


def _asks_files(node: sql.Expr) -> bool:
    return any(not c.table and c.name in _OF_FILES for c in node.find_all(sql.Column))


def _for_server(node: sql.Expr) -> str | None:
    """Return the condition in MLflow's language, where it keeps at least what *node* holds for.

    `!=` on a tag is not such: MLflow drops the versions that lack the tag.
    """
    column = node.this
    if not isinstance(column, sql.Column):
        return None
    group, *keys = [part.name for part in column.parts]
    if group == "tags" and keys and _SAFE_KEY.fullmatch(".".join(keys)):
        asked = f"tags.`{'.'.join(keys)}`"
    elif group in _ON_SERVER and not keys:
        asked = _ON_SERVER[group]
    else:
        return None
    return _sent(node, asked, numeric=group == "version")


def _sent(node: sql.Expr, asked: str, *, numeric: bool) -> str | None:
    value = node.args.get("expression")
    if isinstance(node, sql.In) and asked == "run_id":
        texts = [_quoted(each) for each in node.expressions]
        return None if None in texts or not texts else f"run_id IN ({', '.join(map(str, texts))})"
    if numeric:
        whole = isinstance(value, sql.Literal) and re.fullmatch(r"\d{1,9}", str(value.this))
        comparison = _OPERATORS.get(type(node))
        return f"{asked} {comparison} {whole[0]}" if whole and comparison else None
    quoted = _quoted(value)
    if quoted is None or not isinstance(node, (sql.EQ, sql.Like)) or node.args.get("negate"):
        return None
    return f"{asked} {'=' if isinstance(node, sql.EQ) else 'LIKE'} {quoted}"


def _quoted(value: object) -> str | None:
    if isinstance(value, sql.Literal) and value.is_string and _SAFE_TEXT.fullmatch(value.this):
        return f"'{value.this}'"
    return None


def _plain(value: Any) -> Value:  # noqa: ANN401 - any property
    return float(value) if isinstance(value, int) else value


def _alike(one: Value, other: Value) -> tuple[Any, Any]:
    """Return both as numbers, or both as times, where one of them is such."""
    for kind, read in ((float, _number), (datetime, _time)):
        if isinstance(one, kind) or isinstance(other, kind):
            return read(one), read(other)
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
        read = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(read, datetime):
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
